/* A "null S3": speaks enough S3 for upload servers, keeps small objects, drops part bodies.
 *
 * It shows what a server in front of it can do, not what a store can do. Nothing is checked: no
 * signature, no checksum, no condition. Bodies of known size are dropped inside the kernel.
 * A thread for each connection; loopback only.
 *
 *     nulls3 PORT [--delay MILLISECONDS]
 *
 *     GET  /-/stats   requests by operation, and bytes taken, as JSON
 *     GET  /-/reset   the same, and sets them to zero
 *     /-/sink/        answers tus requests and drops their bodies: the load generator's own limit
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEEP_MAX (8u << 20) /* objects up to this size keep their bytes; peers read back 5 MiB */
#define HEAD_MAX 32768
#define BUFFER (256 * 1024)
#define BUCKETS 65536
#define OPERATIONS 32

/* ---- growing text ------------------------------------------------------------------------- */

typedef struct {
    char *data;
    size_t size, room;
} Text;

static void put_bytes(Text *text, const void *bytes, size_t size) {
    if (text->size + size + 1 > text->room) {
        text->room = (text->size + size + 1) * 2;
        text->data = realloc(text->data, text->room);
        if (!text->data) abort();
    }
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
    text->data[text->size] = 0;
}

static void put(Text *text, const char *format, ...) {
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    put_bytes(text, line, size < (int)sizeof line ? (size_t)size : sizeof line - 1);
}

static void put_xml(Text *text, const char *value) {
    for (; *value; value++) {
        if (*value == '&') put(text, "&amp;");
        else if (*value == '<') put(text, "&lt;");
        else if (*value == '>') put(text, "&gt;");
        else put_bytes(text, value, 1);
    }
}

/* ---- what is stored ----------------------------------------------------------------------- */

typedef struct Item {
    struct Item *next;
    char *name; /* bucket/key of an object, upload id of a multipart upload */
    char *key;  /* of a multipart upload */
    char *meta; /* header lines to give back */
    char *data; /* NULL: only the size is known */
    uint64_t size, tag;
    struct { uint64_t size, tag; } *parts;
    unsigned room;
} Item;

static Item *objects[BUCKETS], *uploads[BUCKETS];
static pthread_mutex_t store = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_tag, taken;
static struct { const char *name; uint64_t count; } operations[OPERATIONS];
static unsigned delay_ms;

static unsigned hash(const char *name) {
    unsigned value = 2166136261u;
    while (*name) value = (value ^ (unsigned char)*name++) * 16777619u;
    return value % BUCKETS;
}

static Item **slot(Item **table, const char *name) {
    Item **at = &table[hash(name)];
    while (*at && strcmp((*at)->name, name)) at = &(*at)->next;
    return at;
}

static void drop(Item **table, const char *name) {
    Item **at = slot(table, name), *item = *at;
    if (!item) return;
    *at = item->next;
    free(item->name), free(item->key), free(item->meta), free(item->data), free(item->parts);
    free(item);
}

static Item *fresh(Item **table, const char *name) {
    drop(table, name);
    Item *item = calloc(1, sizeof *item);
    if (!item) abort();
    item->name = strdup(name);
    item->tag = ++last_tag;
    Item **at = slot(table, name);
    *at = item;
    return item;
}

static void count(const char *name) {
    pthread_mutex_lock(&store);
    for (int i = 0; i < OPERATIONS; i++) {
        if (!operations[i].name) operations[i].name = name;
        if (!strcmp(operations[i].name, name)) {
            operations[i].count++;
            break;
        }
    }
    pthread_mutex_unlock(&store);
}

/* ---- one request -------------------------------------------------------------------------- */

typedef struct {
    int fd;
    char buffer[BUFFER]; /* received, not yet used: buffer[from..to) */
    size_t from, to;
    char head[HEAD_MAX];
    char *method, *path, *query, *headers;
    bool close, chunked, aws, expects;
    uint64_t length, body_size;
    Text body;
    bool keep;
} Request;

static bool fill(Request *request) {
    if (request->from == request->to) request->from = request->to = 0;
    if (request->to == BUFFER) {
        memmove(request->buffer, request->buffer + request->from, request->to - request->from);
        request->to -= request->from;
        request->from = 0;
    }
    ssize_t got = recv(request->fd, request->buffer + request->to, BUFFER - request->to, 0);
    if (got <= 0) return false;
    request->to += (size_t)got;
    return true;
}

static bool send_all(int fd, const void *data, size_t size) {
    for (const char *at = data; size;) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* The value of a header into `value`; false when there is none. */
static bool header(Request *request, const char *name, char *value, size_t room) {
    size_t size = strlen(name);
    for (char *line = request->headers; line && *line; line = strstr(line, "\r\n") + 2) {
        if (*line == '\r') break;
        if (!strncasecmp(line, name, size) && line[size] == ':') {
            line += size + 1;
            while (*line == ' ') line++;
            size_t end = strcspn(line, "\r");
            if (end >= room) end = room - 1;
            memcpy(value, line, end);
            value[end] = 0;
            return true;
        }
    }
    return false;
}

static void decode(char *text) {
    char *to = text;
    for (; *text; text++, to++) {
        unsigned code;
        if (*text == '%' && isxdigit((unsigned char)text[1]) && sscanf(text + 1, "%2x", &code) == 1) {
            *to = (char)code;
            text += 2;
        } else {
            *to = *text;
        }
    }
    *to = 0;
}

/* The value of a query parameter; false when it is not there. */
static bool query(Request *request, const char *name, char *value, size_t room) {
    size_t size = strlen(name);
    for (char *at = request->query; at && *at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL) {
        if (strncmp(at, name, size) || !strchr("=&", at[size])) continue;
        if (value) {
            const char *from = at[size] == '=' ? at + size + 1 : "";
            size_t end = strcspn(from, "&");
            if (end >= room) end = room - 1;
            memcpy(value, from, end);
            value[end] = 0;
            decode(value);
        }
        return true;
    }
    return false;
}

static bool read_head(Request *request) {
    char *end;
    while (!(end = memmem(request->buffer + request->from, request->to - request->from, "\r\n\r\n", 4)))
        if (request->to - request->from >= HEAD_MAX || !fill(request)) return false;
    size_t size = (size_t)(end + 4 - (request->buffer + request->from));
    if (size >= HEAD_MAX) return false;
    memcpy(request->head, request->buffer + request->from, size);
    request->head[size] = 0;
    request->from += size;

    char *line = strstr(request->head, "\r\n"), *save;
    *line = 0;
    request->headers = line + 2;
    request->method = strtok_r(request->head, " ", &save);
    request->path = strtok_r(NULL, " ", &save);
    if (!request->path) return false;
    request->query = strchr(request->path, '?');
    if (request->query) *request->query++ = 0;
    else request->query = "";
    decode(request->path);

    char value[256];
    request->close = header(request, "connection", value, sizeof value) && !strcasecmp(value, "close");
    request->chunked = header(request, "transfer-encoding", value, sizeof value) && strcasestr(value, "chunked");
    request->length = header(request, "content-length", value, sizeof value) ? strtoull(value, NULL, 10) : 0;
    request->expects = header(request, "expect", value, sizeof value);
    request->aws = (header(request, "x-amz-content-sha256", value, sizeof value) && !strncmp(value, "STREAMING-", 10)) ||
                   (header(request, "content-encoding", value, sizeof value) && strstr(value, "aws-chunked"));
    request->body_size = 0;
    request->body.size = 0;
    return true;
}

/* ---- bodies: Content-Length or chunked outside, perhaps aws-chunked inside ------------------ */

static void take(Request *request, const char *data, size_t size) {
    request->body_size += size;
    if (request->keep && request->body.size + size <= KEEP_MAX) put_bytes(&request->body, data, size);
}

/* A decoder of chunks, byte runs in, byte runs out; the same for both kinds of chunks. */
typedef struct {
    enum { SIZE, DATA, AFTER, TRAILER, DONE } state;
    char line[128];
    unsigned used;
    uint64_t left;
} Chunks;

static size_t decode_chunks(Chunks *chunks, const char *data, size_t size,
                            void (*out)(Request *, const char *, size_t, void *), Request *request, void *more) {
    size_t at = 0;
    while (at < size && chunks->state != DONE) {
        if (chunks->state == DATA) {
            size_t run = size - at < chunks->left ? size - at : (size_t)chunks->left;
            out(request, data + at, run, more);
            at += run;
            if (!(chunks->left -= run)) chunks->state = AFTER;
            continue;
        }
        char byte = data[at++];
        if (byte != '\n') {
            if (byte != '\r' && chunks->used < sizeof chunks->line - 1) chunks->line[chunks->used++] = byte;
            continue;
        }
        chunks->line[chunks->used] = 0;
        bool empty = !chunks->used;
        chunks->used = 0;
        if (chunks->state == AFTER) {
            chunks->state = SIZE;
        } else if (chunks->state == TRAILER) {
            if (empty) chunks->state = DONE;
        } else {
            chunks->left = strtoull(chunks->line, NULL, 16);
            chunks->state = chunks->left ? DATA : TRAILER;
        }
    }
    return at;
}

static void out_plain(Request *request, const char *data, size_t size, void *unused) {
    (void)unused;
    take(request, data, size);
}

static void out_inner(Request *request, const char *data, size_t size, void *inner) {
    if (inner) decode_chunks(inner, data, size, out_plain, request, NULL);
    else take(request, data, size);
}

static bool read_body(Request *request) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (request->expects && !send_all(request->fd, go_on, sizeof go_on - 1)) return false;
    Chunks outer = {0}, inner = {0};
    void *within = request->aws ? &inner : NULL;
    uint64_t left = request->length;
    while (request->chunked ? outer.state != DONE : left > 0) {
        if (request->from == request->to) {
            if (!request->chunked && !within && !request->keep) {
                /* Nobody wants these bytes: the kernel need not hand them over. */
                size_t want = left < (4u << 20) ? (size_t)left : (4u << 20);
                ssize_t got = recv(request->fd, NULL, want, MSG_TRUNC);
                if (got <= 0) return false;
                left -= (uint64_t)got;
                request->body_size += (uint64_t)got;
                continue;
            }
            if (!fill(request)) return false;
        }
        const char *data = request->buffer + request->from;
        size_t size = request->to - request->from;
        if (request->chunked) {
            request->from += decode_chunks(&outer, data, size, out_inner, request, within);
        } else {
            if (size > left) size = (size_t)left;
            out_inner(request, data, size, within);
            request->from += size;
            left -= size;
        }
    }
    pthread_mutex_lock(&store);
    taken += request->body_size;
    pthread_mutex_unlock(&store);
    return true;
}

/* ---- answers ------------------------------------------------------------------------------ */

static bool answer(Request *request, int status, const char *extra, const char *body, size_t size, uint64_t length) {
    if (delay_ms && strncmp(request->path, "/-/", 3)) {
        struct timespec pause = {delay_ms / 1000, (long)(delay_ms % 1000) * 1000000L};
        nanosleep(&pause, NULL);
    }
    Text text = {0};
    put(&text, "HTTP/1.1 %d %s\r\nx-amz-request-id: 0\r\nServer: null\r\n", status, status < 300 ? "OK" : "No");
    if (status != 204) put(&text, "Content-Length: %llu\r\n", (unsigned long long)length);
    if (request->close) put(&text, "Connection: close\r\n");
    put(&text, "%s\r\n", extra);
    bool bare = !strcmp(request->method, "HEAD") || status == 204;
    if (body && !bare) put_bytes(&text, body, size);
    bool ok = send_all(request->fd, text.data, text.size);
    free(text.data);
    if (!body && !bare) { /* an object of which only the size is known reads as zeros */
        static const char zeros[65536];
        while (ok && length) {
            size_t run = length < sizeof zeros ? (size_t)length : sizeof zeros;
            ok = send_all(request->fd, zeros, run);
            length -= run;
        }
    }
    return ok && !request->close;
}

static bool answer_text(Request *request, int status, const char *extra, Text *text) {
    bool ok = answer(request, status, extra, text->data ? text->data : "", text->size, text->size);
    free(text->data);
    return ok;
}

static bool answer_empty(Request *request, int status, const char *extra) {
    return answer(request, status, extra, "", 0, 0);
}

static bool failure(Request *request, int status, const char *code) {
    Text text = {0};
    put(&text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    return answer_text(request, status, "Content-Type: application/xml\r\n", &text);
}

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define XML_TYPE "Content-Type: application/xml\r\n"

/* ---- operations --------------------------------------------------------------------------- */

static bool get_object(Request *request) {
    count(!strcmp(request->method, "HEAD") ? "HeadObject" : "GetObject");
    pthread_mutex_lock(&store);
    Item *item = *slot(objects, request->path);
    if (!item) {
        pthread_mutex_unlock(&store);
        return failure(request, 404, "NoSuchKey");
    }
    Text extra = {0};
    uint64_t first = 0, last = item->size ? item->size - 1 : 0, length = item->size;
    char range[64];
    int status = 200;
    if (header(request, "range", range, sizeof range) && !strncmp(range, "bytes=", 6) && item->size) {
        char *dash = strchr(range, '-');
        first = strtoull(range + 6, NULL, 10);
        if (dash && dash[1]) last = strtoull(dash + 1, NULL, 10);
        if (last >= item->size) last = item->size - 1;
        length = first <= last ? last - first + 1 : 0;
        status = 206;
        put(&extra, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)first, (unsigned long long)last,
            (unsigned long long)item->size);
    }
    put(&extra, "ETag: \"%032llx\"\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n", (unsigned long long)item->tag);
    put_bytes(&extra, item->meta, strlen(item->meta));
    char *copy = NULL;
    if (item->data || !item->size) {
        copy = malloc(length + 1);
        if (!copy) abort();
        memcpy(copy, item->data ? item->data + first : "", length);
    }
    pthread_mutex_unlock(&store);
    bool ok = answer(request, status, extra.data, copy, length, length);
    free(copy), free(extra.data);
    return ok;
}

/* What the request says of the object beside its bytes. */
static char *meta_of(Request *request) {
    Text text = {0};
    put_bytes(&text, "", 0);
    for (char *line = request->headers; *line && *line != '\r'; line = strstr(line, "\r\n") + 2)
        if (!strncasecmp(line, "x-amz-meta-", 11) || !strncasecmp(line, "content-type:", 13))
            put_bytes(&text, line, strcspn(line, "\r") + 2);
    return text.data;
}

static bool answer_etag(Request *request, uint64_t tag) {
    char extra[64];
    snprintf(extra, sizeof extra, "ETag: \"%032llx\"\r\n", (unsigned long long)tag);
    return answer_empty(request, 200, extra);
}

static bool put_object(Request *request) {
    char source[2048];
    bool copies = header(request, "x-amz-copy-source", source, sizeof source);
    count(copies ? "CopyObject" : "PutObject");
    pthread_mutex_lock(&store);
    uint64_t size = request->body_size, tag;
    char *data = NULL;
    if (copies) {
        char name[2050];
        decode(source);
        snprintf(name, sizeof name, "%s%s", *source == '/' ? "" : "/", source);
        Item *from = *slot(objects, name);
        size = from ? from->size : 0;
        if (from && from->data) memcpy(data = malloc(size + 1), from->data, size);
    } else if (request->body.size == size && size) {
        memcpy(data = malloc(size), request->body.data, size);
    }
    Item *item = fresh(objects, request->path);
    item->meta = meta_of(request);
    item->size = size;
    item->data = data;
    tag = item->tag;
    pthread_mutex_unlock(&store);
    if (!copies) return answer_etag(request, tag);
    Text text = {0};
    put(&text, XML "<CopyObjectResult><ETag>&quot;%032llx&quot;</ETag></CopyObjectResult>", (unsigned long long)tag);
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool create_upload(Request *request) {
    count("CreateMultipartUpload");
    char id[64];
    pthread_mutex_lock(&store);
    snprintf(id, sizeof id, "upload-%llu", (unsigned long long)++last_tag);
    Item *item = fresh(uploads, id);
    item->key = strdup(request->path);
    item->meta = meta_of(request);
    pthread_mutex_unlock(&store);
    Text text = {0};
    put(&text, XML "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id);
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool upload_part(Request *request, const char *id) {
    char value[64], source[2048];
    bool copies = header(request, "x-amz-copy-source", source, sizeof source);
    count(copies ? "UploadPartCopy" : "UploadPart");
    unsigned number = query(request, "partNumber", value, sizeof value) ? (unsigned)atoi(value) : 0;
    uint64_t size = request->body_size, first, last;
    if (copies && header(request, "x-amz-copy-source-range", value, sizeof value) &&
        sscanf(value, "bytes=%lu-%lu", &first, &last) == 2)
        size = last - first + 1;
    pthread_mutex_lock(&store);
    Item *item = *slot(uploads, id);
    if (!item || !number || number > 10000) {
        pthread_mutex_unlock(&store);
        return failure(request, 404, "NoSuchUpload");
    }
    if (number >= item->room) {
        unsigned room = number * 2 + 16;
        item->parts = realloc(item->parts, room * sizeof *item->parts);
        memset(item->parts + item->room, 0, (room - item->room) * sizeof *item->parts);
        item->room = room;
    }
    uint64_t tag = ++last_tag;
    item->parts[number].size = size;
    item->parts[number].tag = tag;
    pthread_mutex_unlock(&store);
    if (!copies) return answer_etag(request, tag);
    Text text = {0};
    put(&text, XML "<CopyPartResult><ETag>&quot;%032llx&quot;</ETag></CopyPartResult>", (unsigned long long)tag);
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool list_parts(Request *request, const char *id) {
    count("ListParts");
    char value[32];
    unsigned marker = query(request, "part-number-marker", value, sizeof value) ? (unsigned)atoi(value) : 0;
    unsigned limit = query(request, "max-parts", value, sizeof value) ? (unsigned)atoi(value) : 1000, shown = 0, last = marker;
    bool more = false;
    Text text = {0};
    pthread_mutex_lock(&store);
    Item *item = *slot(uploads, id);
    if (!item) {
        pthread_mutex_unlock(&store);
        return failure(request, 404, "NoSuchUpload");
    }
    put(&text, XML "<ListPartsResult><UploadId>%s</UploadId>", id);
    for (unsigned number = marker + 1; number < item->room && !more; number++) {
        if (!item->parts[number].tag) continue;
        if (shown == limit) {
            more = true;
            break;
        }
        put(&text, "<Part><PartNumber>%u</PartNumber><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
                   "<ETag>&quot;%032llx&quot;</ETag><Size>%llu</Size></Part>",
            number, (unsigned long long)item->parts[number].tag, (unsigned long long)item->parts[number].size);
        shown++;
        last = number;
    }
    pthread_mutex_unlock(&store);
    put(&text, "<NextPartNumberMarker>%u</NextPartNumberMarker><MaxParts>%u</MaxParts><IsTruncated>%s</IsTruncated></ListPartsResult>",
        last, limit, more ? "true" : "false");
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool complete(Request *request, const char *id) {
    count("CompleteMultipartUpload");
    pthread_mutex_lock(&store);
    Item *item = *slot(uploads, id);
    if (!item) {
        pthread_mutex_unlock(&store);
        return failure(request, 404, "NoSuchUpload");
    }
    uint64_t size = 0;
    const char *at = request->body.size ? request->body.data : "";
    while ((at = strstr(at, "<PartNumber>"))) {
        unsigned number = (unsigned)atoi(at += 12);
        if (number < item->room) size += item->parts[number].size;
    }
    Item *object = fresh(objects, item->key);
    object->size = size;
    object->meta = item->meta;
    item->meta = NULL;
    uint64_t tag = object->tag;
    drop(uploads, id);
    pthread_mutex_unlock(&store);
    Text text = {0};
    put(&text, XML "<CompleteMultipartUploadResult><Key>");
    put_xml(&text, request->path);
    put(&text, "</Key><ETag>&quot;%032llx-1&quot;</ETag></CompleteMultipartUploadResult>", (unsigned long long)tag);
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool delete_many(Request *request) {
    count("DeleteObjects");
    Text text = {0};
    put(&text, XML "<DeleteResult>");
    char *at = request->body.size ? request->body.data : "", *end;
    pthread_mutex_lock(&store);
    while ((at = strstr(at, "<Key>")) && (end = strstr(at, "</Key>"))) {
        *end = 0;
        char name[2048];
        size_t bucket = strcspn(request->path + 1, "/") + 1;
        snprintf(name, sizeof name, "%.*s/%s", (int)bucket, request->path, at + 5);
        drop(objects, name);
        put(&text, "<Deleted><Key>");
        put_xml(&text, at + 5);
        put(&text, "</Key></Deleted>");
        at = end + 1;
    }
    pthread_mutex_unlock(&store);
    put(&text, "</DeleteResult>");
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool list_objects(Request *request) {
    count("ListObjectsV2");
    char prefix[1024] = "", wanted[2048];
    query(request, "prefix", prefix, sizeof prefix);
    size_t bucket = strcspn(request->path + 1, "/") + 1, shown = 0;
    int size = snprintf(wanted, sizeof wanted, "%.*s/%s", (int)bucket, request->path, prefix);
    Text text = {0};
    put(&text, XML "<ListBucketResult><IsTruncated>false</IsTruncated>");
    pthread_mutex_lock(&store);
    for (unsigned i = 0; i < BUCKETS; i++)
        for (Item *item = objects[i]; item && shown < 1000; item = item->next) {
            if (strncmp(item->name, wanted, (size_t)size)) continue;
            put(&text, "<Contents><Key>");
            put_xml(&text, item->name + bucket + 1);
            put(&text, "</Key><Size>%llu</Size><ETag>&quot;%032llx&quot;</ETag>"
                       "<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents>",
                (unsigned long long)item->size, (unsigned long long)item->tag);
            shown++;
        }
    pthread_mutex_unlock(&store);
    put(&text, "<KeyCount>%zu</KeyCount></ListBucketResult>", shown);
    return answer_text(request, 200, XML_TYPE, &text);
}

static bool on_bucket(Request *request) {
    Text text = {0};
    if (!strcmp(request->method, "POST") && query(request, "delete", NULL, 0)) return delete_many(request);
    if (strcmp(request->method, "GET")) {
        count("HeadBucket");
        return answer_empty(request, 200, "x-amz-bucket-region: us-east-1\r\n");
    }
    if (query(request, "location", NULL, 0)) {
        count("GetBucketLocation");
        put(&text, XML "<LocationConstraint>us-east-1</LocationConstraint>");
        return answer_text(request, 200, XML_TYPE, &text);
    }
    if (query(request, "uploads", NULL, 0)) {
        count("ListMultipartUploads");
        put(&text, XML "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
        return answer_text(request, 200, XML_TYPE, &text);
    }
    return list_objects(request);
}

static bool delete_one(Request *request, const char *id) {
    count(id ? "AbortMultipartUpload" : "DeleteObject");
    pthread_mutex_lock(&store);
    if (id) drop(uploads, id);
    else drop(objects, request->path);
    pthread_mutex_unlock(&store);
    return answer_empty(request, 204, "");
}

static bool stats(Request *request, bool reset) {
    Text text = {0};
    uint64_t all = 0;
    pthread_mutex_lock(&store);
    put(&text, "{\"operations\": {");
    for (int i = 0; i < OPERATIONS && operations[i].name; i++) {
        put(&text, "%s\"%s\": %llu", i ? ", " : "", operations[i].name, (unsigned long long)operations[i].count);
        all += operations[i].count;
        if (reset) operations[i].count = 0;
    }
    put(&text, "}, \"requests\": %llu, \"bytes\": %llu}\n", (unsigned long long)all, (unsigned long long)taken);
    if (reset) taken = 0;
    pthread_mutex_unlock(&store);
    return answer_text(request, 200, "Content-Type: application/json\r\n", &text);
}

/* A tus server that stores nothing: what the load generator reaches against it is its own limit. */
static bool sink(Request *request) {
    static volatile uint64_t last_offset; /* for HEAD; one upload at a time */
    char value[32] = "0", extra[160];
    bool creates = !strcmp(request->method, "POST");
    if (header(request, "upload-offset", value, sizeof value) || creates)
        last_offset = strtoull(value, NULL, 10) + request->body_size;
    unsigned long long offset =
        strcmp(request->method, "HEAD") ? strtoull(value, NULL, 10) + request->body_size : last_offset;
    snprintf(extra, sizeof extra, "Tus-Resumable: 1.0.0\r\nUpload-Offset: %llu\r\n%s", offset,
             creates ? "Location: /-/sink/1\r\n" : "");
    return answer_empty(request, creates ? 201 : 204, extra);
}

static bool serve(Request *request) {
    char id[128];
    bool puts = !strcmp(request->method, "PUT"), posts = !strcmp(request->method, "POST");
    bool part = query(request, "uploadId", id, sizeof id);
    bool sinks = !strncmp(request->path, "/-/sink/", 8);
    request->keep = !sinks && !(puts && part) && (posts || request->length <= KEEP_MAX);
    if (!read_body(request)) return false;
    if (sinks) return sink(request);
    if (!strcmp(request->path, "/-/stats")) return stats(request, false);
    if (!strcmp(request->path, "/-/reset")) return stats(request, true);
    const char *slash = strchr(request->path + 1, '/');
    if (!slash || !slash[1]) return on_bucket(request);
    if (puts) return part ? upload_part(request, id) : put_object(request);
    if (posts) return part ? complete(request, id) : create_upload(request);
    if (!strcmp(request->method, "DELETE")) return delete_one(request, part ? id : NULL);
    if (part) return list_parts(request, id);
    return get_object(request);
}

static void *connection(void *argument) {
    Request *request = calloc(1, sizeof *request);
    if (!request) abort();
    request->fd = (int)(intptr_t)argument;
    int yes = 1;
    setsockopt(request->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    while (read_head(request) && serve(request)) {}
    close(request->fd);
    free(request->body.data);
    free(request);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: nulls3 PORT [--delay MILLISECONDS]\n");
        return 2;
    }
    if (argc > 3 && !strcmp(argv[2], "--delay")) delay_ms = (unsigned)atoi(argv[3]);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("nulls3");
        return 1;
    }
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 * 1024);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        pthread_t thread;
        if (pthread_create(&thread, &small, connection, (void *)(intptr_t)fd)) close(fd);
    }
}
