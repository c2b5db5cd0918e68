// Uploads one file with @uppy/aws-s3 in a headless Chromium, as told by a JSON object in the first
// argument, and prints what happens as JSON, one object a line. Lines on standard input are
// commands: "resume", "cancel".
//
// chromium         path of the browser
// server           URL of the server; the page has another origin
// file             path of what is uploaded
// multipart        whether the plugin cuts the file
// pauseAfterParts  number of parts after which it pauses by itself
// example          the page's script, instead of page.js; it makes `uppy`

import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

const options = JSON.parse(process.argv[2])

const folder = new URL('.', import.meta.url).pathname
const glue = `
document.querySelector('input').addEventListener('change', (event) => {
  const [file] = event.target.files
  uppy.addFile({ name: file.name, type: file.type, data: file })
})
uppy.on('upload-error', (_, error) => window.tell({ event: 'error', message: error.message }))
uppy.on('upload-success', (_, { body }) => window.tell({ event: 'uploaded', key: body.key }))
`
const entry = options.example
  ? { stdin: { contents: options.example + glue, resolveDir: folder } }
  : { entryPoints: [`${folder}page.js`] }
const bundle = await build({
  ...entry,
  bundle: true,
  format: 'iife',
  write: false,
})
const script = bundle.outputFiles[0].text
const html = '<!doctype html><title>test</title><input type="file"><script src="/page.js"></script>'

const pages = createServer((request, response) => {
  const isScript = request.url === '/page.js'
  response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html')
  response.end(isScript ? script : html)
})
await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve))

const browser = await chromium.launch({
  executablePath: options.chromium,
  args: ['--no-sandbox', '--no-proxy-server'],
})
const page = await browser.newPage()
const commands = createInterface({ input: process.stdin })

function tell(facts) {
  process.stdout.write(`${JSON.stringify(facts)}\n`)
  if (['success', 'error', 'cancelled'].includes(facts.event)) commands.close()
}

page.on('pageerror', (error) => tell({ event: 'error', message: String(error) }))
page.on('response', (response) => {
  const { pathname } = new URL(response.url())
  if (pathname === '/s3/complete') tell({ event: 'told', status: response.status() })
})
await page.exposeFunction('tell', tell)
await page.addInitScript((given) => {
  window.options = given
}, options)
await page.goto(`http://127.0.0.1:${pages.address().port}/`)
await page.setInputFiles('input', options.file)

for await (const command of commands) {
  if (command === 'resume') await page.evaluate(() => window.uppy.resumeAll())
  if (command === 'cancel') {
    const aborted = page.waitForResponse((response) => response.request().method() === 'DELETE')
    await page.evaluate(() => window.uppy.cancelAll())
    tell({ event: 'cancelled', status: (await aborted).status() })
  }
}
await browser.close()
pages.close()
