// A site's page with Uppy. The options of its tus plugin come as JSON in the address, behind `#`.

import Uppy from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import Tus from '@uppy/tus'

const uppy = new Uppy({ autoProceed: true })
uppy.use(Dashboard, { inline: true, target: '#dashboard' })
uppy.use(Tus, JSON.parse(decodeURIComponent(location.hash.slice(1))))

window.uppy = uppy
window.uploaded = {}
window.failed = []
uppy.on('upload-success', (file, response) => {
  window.uploaded[file.name] = response.uploadURL
})
uppy.on('upload-error', (file, error) => {
  window.failed.push(`${file.name}: ${error.message}`)
})
