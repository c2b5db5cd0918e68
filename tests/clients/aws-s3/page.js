// What an application's page has: Uppy with its S3 plugin, pointed at the server. `tell` comes from
// outside.

import AwsS3 from '@uppy/aws-s3'
import Uppy from '@uppy/core'

const { server, multipart, pauseAfterParts } = window.options

const uppy = new Uppy({ autoProceed: false })
window.uppy = uppy
uppy.use(AwsS3, { companionEndpoint: server, shouldUseMultipart: multipart })

let parts = 0
uppy.on('s3-multipart:part-uploaded', (_, part) => {
  parts += 1
  window.tell({ event: 'part', number: part.PartNumber })
  if (parts === pauseAfterParts) {
    uppy.pauseAll()
    window.tell({ event: 'paused' })
  }
})
uppy.on('upload-error', (_, error) => window.tell({ event: 'error', message: error.message }))
uppy.on('upload-success', async (_, { body }) => {
  if (!multipart) {
    // Nothing else tells the server that the file has arrived.
    const told = await fetch(`${server}/s3/complete?${new URLSearchParams({ key: body.key })}`, {
      method: 'POST',
    })
    if (!told.ok) return window.tell({ event: 'error', message: await told.text() })
  }
  window.tell({ event: 'success', key: body.key, location: body.location })
})

document.querySelector('input').addEventListener('change', (event) => {
  const [file] = event.target.files
  uppy.addFile({ name: file.name, type: file.type, data: file })
  uppy.upload().catch((error) => window.tell({ event: 'error', message: String(error) }))
})
