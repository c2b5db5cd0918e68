/* Load generator for tus servers: a thread for each client, blocking sockets, bodies by sendfile.
 *
 *     load MODE --port N [--path /files/] [--uploads N] [--clients N] [--size BYTES] [--chunk BYTES]
 *               [--rate BYTES] [--requests N] [--with-creation] [--offset BYTES]
 *
 *     upload   `uploads` uploads of `size` bytes in PATCHes of `chunk` bytes, `clients` at once;
 *              with --with-creation the first chunk is sent in the POST
 *     trickle  as `upload`, each body at `rate` bytes per second
 *     head     one upload with `chunk` bytes of `size`; then `requests` HEADs over all clients
 *     patch    as `head`, but `requests` PATCHes of `chunk` bytes on one upload, one after another
 *
 * Prints one JSON object: seconds, bytes, requests, latencies, failures. Loopback only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATTERN (16u << 20)
#define ANSWER_MAX 16384
#define TIMEOUT_S 300
#define STEPS_PER_S 4

static struct {
    const char *mode, *path;
    int port, clients;
    uint64_t uploads, size, chunk, rate, requests;
    bool with_creation;
} options = {.path = "/files/", .clients = 1, .uploads = 1};

static int pattern; /* a file in memory that bodies are sent from: no copy on our side */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t next_upload, next_request, bytes_sent, failures;
static double *latencies;
static uint64_t latency_count, latency_room;
static char first_failure[512];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void wait_until(double moment) {
    struct timespec time = {(time_t)moment, (long)((moment - (double)(time_t)moment) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {}
}

static void note(double seconds, uint64_t bytes) {
    pthread_mutex_lock(&lock);
    if (latency_count == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 4096;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) abort();
    }
    latencies[latency_count++] = seconds;
    bytes_sent += bytes;
    pthread_mutex_unlock(&lock);
}

static void fail(const char *what, const char *detail) {
    pthread_mutex_lock(&lock);
    if (!failures++) snprintf(first_failure, sizeof first_failure, "%s: %.200s", what, detail);
    pthread_mutex_unlock(&lock);
}

typedef struct {
    int fd, status;
    char answer[ANSWER_MAX + 1], location[1024];
    uint64_t offset;
    bool has_offset;
} Client;

static bool connected(Client *client) {
    if (client->fd >= 0) return true;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval timeout = {TIMEOUT_S, 0};
    int yes = 1;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (!connect(client->fd, (struct sockaddr *)&address, sizeof address)) return true;
    close(client->fd);
    client->fd = -1;
    return false;
}

static void disconnect(Client *client) {
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
}

static bool send_text(Client *client, const char *text, size_t size) {
    while (size) {
        ssize_t sent = send(client->fd, text, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        text += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool send_pattern(Client *client, uint64_t size) {
    while (size) {
        off_t from = 0;
        ssize_t sent = sendfile(client->fd, pattern, &from, size < PATTERN ? (size_t)size : PATTERN);
        if (sent <= 0) return false;
        size -= (uint64_t)sent;
    }
    return true;
}

static bool send_body(Client *client, uint64_t size) {
    if (!options.rate) return send_pattern(client, size);
    double begun = now();
    for (uint64_t sent = 0, step = options.rate / STEPS_PER_S; sent < size; sent += step) {
        wait_until(begun + (double)sent / (double)options.rate);
        if (!send_pattern(client, size - sent < step ? size - sent : step)) return false;
    }
    return true;
}

static char *find_header(char *answer, const char *name) {
    size_t size = strlen(name);
    for (char *line = strstr(answer, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, size) && line[2 + size] == ':') return line + 3 + size + strspn(line + 3 + size, " ");
    return NULL;
}

static bool read_more(Client *client, size_t *have) {
    if (*have >= ANSWER_MAX) return false;
    ssize_t got = recv(client->fd, client->answer + *have, ANSWER_MAX - *have, 0);
    if (got <= 0) return false;
    *have += (size_t)got;
    client->answer[*have] = 0;
    return true;
}

/* Reads one answer; bodies are small and dropped. */
static bool read_answer(Client *client, bool is_head) {
    size_t have = 0;
    char *end, *value;
    client->answer[0] = 0;
    while (!(end = strstr(client->answer, "\r\n\r\n")))
        if (!read_more(client, &have)) return false;
    size_t head = (size_t)(end + 4 - client->answer);
    *end = 0;
    client->status = have > 12 ? atoi(client->answer + 9) : 0;
    uint64_t length = (value = find_header(client->answer, "content-length")) ? strtoull(value, NULL, 10) : 0;
    bool chunked = (value = find_header(client->answer, "transfer-encoding")) && !strncasecmp(value, "chunked", 7);
    bool closes = (value = find_header(client->answer, "connection")) && !strncasecmp(value, "close", 5);
    client->has_offset = (value = find_header(client->answer, "upload-offset"));
    client->offset = value ? strtoull(value, NULL, 10) : 0;
    if ((value = find_header(client->answer, "location"))) {
        char *path = strstr(value, "://");
        path = path ? strchr(path + 3, '/') : value;
        if (path) {
            size_t size = strcspn(path, "\r");
            snprintf(client->location, sizeof client->location, "%.*s", (int)size, path);
        }
    }
    if (!is_head && client->status != 204) {
        while (!chunked && have < head + length)
            if (!read_more(client, &have)) return false;
        while (chunked && !(have >= head + 5 && !memcmp(client->answer + have - 5, "0\r\n\r\n", 5)))
            if (!read_more(client, &have)) return false;
    }
    if (closes) disconnect(client);
    return true;
}

/* One request. False, and noted as a failure, unless it is answered with 2xx. */
static bool request(Client *client, const char *method, const char *path, const char *headers, uint64_t body) {
    char head[4096];
    int size = snprintf(head, sizeof head,
                        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTus-Resumable: 1.0.0\r\n%s\r\n", method, path,
                        options.port, headers);
    bool ok = false;
    double begun = now();
    for (int attempt = 0; attempt < 2 && !ok; attempt++) {
        bool pooled = client->fd >= 0; /* a kept connection may have been closed by the server */
        if (!connected(client)) break;
        ok = send_text(client, head, (size_t)size) && (!body || send_body(client, body)) &&
             read_answer(client, !strcmp(method, "HEAD"));
        if (!ok) disconnect(client);
        if (!pooled) break;
    }
    if (!ok) {
        fail(method, "no answer");
        return false;
    }
    if (client->status / 100 != 2) {
        fail(method, client->answer);
        return false;
    }
    note(now() - begun, body);
    return true;
}

static bool create(Client *client, uint64_t size, uint64_t body) {
    char headers[512], more[128] = "Content-Length: 0\r\n";
    if (body)
        snprintf(more, sizeof more, "Content-Type: application/offset+octet-stream\r\nContent-Length: %llu\r\n",
                 (unsigned long long)body);
    snprintf(headers, sizeof headers, "Upload-Length: %llu\r\nUpload-Metadata: filename YmVuY2guYmlu\r\n%s",
             (unsigned long long)size, more);
    if (!request(client, "POST", options.path, headers, body)) return false;
    if (body && client->offset != body) {
        fail("POST", "not all of the body was taken");
        return false;
    }
    return true;
}

static bool append(Client *client, uint64_t offset, uint64_t size) {
    char headers[256];
    snprintf(headers, sizeof headers,
             "Upload-Offset: %llu\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: %llu\r\n",
             (unsigned long long)offset, (unsigned long long)size);
    if (!request(client, "PATCH", client->location, headers, size)) return false;
    if (client->offset != offset + size) {
        fail("PATCH", "wrong Upload-Offset");
        return false;
    }
    return true;
}

static uint64_t chunk_at(uint64_t offset) {
    uint64_t left = options.size - offset;
    return options.chunk && options.chunk < left ? options.chunk : left;
}

static bool claim(uint64_t *counter, uint64_t limit) {
    pthread_mutex_lock(&lock);
    bool free = *counter < limit;
    if (free) ++*counter;
    pthread_mutex_unlock(&lock);
    return free;
}

static void *upload(void *unused) {
    (void)unused;
    Client client = {.fd = -1};
    while (claim(&next_upload, options.uploads)) {
        uint64_t offset = options.with_creation ? chunk_at(0) : 0;
        if (!create(&client, options.size, offset)) continue;
        for (uint64_t size; offset < options.size; offset += size)
            if (!append(&client, offset, size = chunk_at(offset))) break;
    }
    disconnect(&client);
    return NULL;
}

static char shared_location[1024];

static void *head(void *unused) {
    (void)unused;
    Client client = {.fd = -1};
    while (claim(&next_request, options.requests)) {
        if (request(&client, "HEAD", shared_location, "", 0) && client.offset != options.chunk)
            fail("HEAD", "wrong Upload-Offset");
    }
    disconnect(&client);
    return NULL;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double quantile(double share) {
    return latency_count ? latencies[(uint64_t)((double)(latency_count - 1) * share)] : 0;
}

static void run_clients(void *(*work)(void *)) {
    pthread_t *threads = calloc((size_t)options.clients, sizeof *threads);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 * 1024);
    for (int i = 0; i < options.clients; i++)
        if (pthread_create(&threads[i], &small, work, NULL)) abort();
    for (int i = 0; i < options.clients; i++) pthread_join(threads[i], NULL);
    free(threads);
}

static void parse(int argc, char **argv) {
    options.mode = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--with-creation")) {
            options.with_creation = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        uint64_t number = strtoull(value, NULL, 10);
        if (!strcmp(argv[i], "--port")) options.port = (int)number;
        else if (!strcmp(argv[i], "--path")) options.path = value;
        else if (!strcmp(argv[i], "--clients")) options.clients = (int)number;
        else if (!strcmp(argv[i], "--uploads")) options.uploads = number;
        else if (!strcmp(argv[i], "--size")) options.size = number;
        else if (!strcmp(argv[i], "--chunk")) options.chunk = number;
        else if (!strcmp(argv[i], "--rate")) options.rate = number;
        else if (!strcmp(argv[i], "--requests")) options.requests = number;
        else fprintf(stderr, "load: what is %s?\n", argv[i]), exit(2);
        i++;
    }
}

int main(int argc, char **argv) {
    parse(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    pattern = memfd_create("pattern", 0);
    uint64_t state = 88172645463325252u, *words = malloc(PATTERN);
    for (size_t i = 0; i < PATTERN / 8; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        words[i] = state;
    }
    if (pattern < 0 || write(pattern, words, PATTERN) != PATTERN) return 1;
    free(words);

    Client first = {.fd = -1};
    bool heads = !strcmp(options.mode, "head"), patches = !strcmp(options.mode, "patch"), ready = true;
    if (heads || patches) {
        ready = create(&first, options.size, 0) && (patches || append(&first, 0, options.chunk));
        memcpy(shared_location, first.location, sizeof shared_location);
        latency_count = 0;
        bytes_sent = 0;
    }
    double begun = now();
    if (heads && ready) run_clients(head);
    else if (patches)
        for (uint64_t i = 0; ready && i < options.requests; i++) ready = append(&first, i * options.chunk, options.chunk);
    else if (!heads) run_clients(upload);
    double seconds = now() - begun;
    disconnect(&first);

    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    qsort(latencies, latency_count, sizeof *latencies, ascending);
    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"requests\": %llu, \"failures\": %llu, \"p50\": %.6f, \"p95\": %.6f, "
           "\"max\": %.6f, \"cpu_s\": %.3f}\n",
           seconds, (unsigned long long)bytes_sent, (unsigned long long)latency_count, (unsigned long long)failures,
           quantile(0.5), quantile(0.95), quantile(1), cpu);
    if (failures) fprintf(stderr, "load: %s\n", first_failure);
    return failures || !ready ? 1 : 0;
}
