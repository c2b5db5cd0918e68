// Uploads one file with tus-js-client, as told by a JSON object in the first argument, and prints
// what happens as JSON, one object a line. Lines on standard input are commands: "pause",
// "resume", "terminate".
//
// file          path of what is uploaded
// as            "file" (default), "buffer" or "stream"
// storage       path of the file in which upload URLs are kept
// findPrevious  resume the newest upload of this file that `storage` knows
// Everything else is handed to tus.Upload as it is.

import { createReadStream, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import * as tus from 'tus-js-client'

const { file, as = 'file', storage, findPrevious, ...given } = JSON.parse(process.argv[2])

function tell(event, facts = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`)
}

function source() {
  if (as === 'buffer') return readFileSync(file)
  const stream = createReadStream(file)
  // A stream with a path would be taken for its file, which can be read again from anywhere.
  return as === 'stream' ? stream.pipe(new PassThrough()) : stream
}

function end(event, facts) {
  tell(event, facts)
  commands.close()
}

const upload = new tus.Upload(source(), {
  ...given,
  ...(storage ? { urlStorage: new tus.FileUrlStorage(storage) } : {}),
  onUploadUrlAvailable: () => tell('url', { url: upload.url }),
  onProgress: (sent, total) => tell('progress', { sent, total }),
  onChunkComplete: (size, accepted) => tell('chunk', { size, accepted }),
  onBeforeRequest: (request) => {
    tell('request', {
      method: request.getMethod(),
      url: request.getURL(),
      offset: Number(request.getHeader('Upload-Offset') ?? -1),
      length: Number(request.getHeader('Upload-Length') ?? -1),
    })
  },
  onAfterResponse: (request, response) => {
    tell('response', {
      method: request.getMethod(),
      status: response.getStatus(),
      offset: Number(response.getHeader('Upload-Offset') ?? -1),
    })
  },
  onShouldRetry: (error, attempt) => {
    const status = error.originalResponse?.getStatus() ?? 0
    tell('trouble', { message: error.message, status, attempt })
    return status < 400 || status >= 500 || status === 409 || status === 423
  },
  onSuccess: () => end('success', { url: upload.url }),
  onError: (error) => {
    process.exitCode = 1
    end('error', {
      message: error.message,
      status: error.originalResponse?.getStatus() ?? 0,
    })
  },
})

const commands = createInterface({ input: process.stdin })
commands.on('line', async (command) => {
  if (command === 'pause') {
    await upload.abort()
    tell('paused')
  } else if (command === 'resume') {
    upload.start()
  } else if (command === 'terminate') {
    await upload.abort(true)
    end('terminated')
  }
})

if (findPrevious) {
  const found = await upload.findPreviousUploads()
  tell('previous', { count: found.length })
  found.sort((a, b) => new Date(b.creationTime) - new Date(a.creationTime))
  if (found.length > 0) upload.resumeFromPreviousUpload(found[0])
}
upload.start()
