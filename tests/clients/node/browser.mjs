// Drives Chromium, as told by JSON objects on standard input, one a line; answers in the same way
// on standard output. The first argument is a JSON object: executablePath, args, profile.

import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { chromium } from 'playwright-core'

const { executablePath, args, profile } = JSON.parse(process.argv[2])

function tell(event, facts = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`)
}

const context = await chromium.launchPersistentContext(profile, { executablePath, args })
const page = context.pages()[0] ?? (await context.newPage())

page.on('console', (message) => tell('console', { text: message.text() }))
page.on('pageerror', (error) => tell('console', { text: String(error) }))
page.on('request', (request) => tell('request', { method: request.method(), url: request.url() }))

// A real drag, with files the browser reads from disk: pages see what they see from a user.
async function drop({ selector, files }) {
  const box = await page.locator(selector).boundingBox()
  const devtools = await context.newCDPSession(page)
  const at = { x: box.x + box.width / 2, y: box.y + box.height / 2 }
  const data = { items: [], files, dragOperationsMask: 1 }
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await devtools.send('Input.dispatchDragEvent', { type, ...at, data })
  }
  await devtools.detach()
}

// Not Playwright's own waiting, which a page's content security policy may forbid.
async function waitUntil({ expression, timeout }) {
  const deadline = Date.now() + timeout
  for (;;) {
    const value = await page.evaluate(expression)
    if (value) return value
    if (Date.now() > deadline) throw new Error(`still ${JSON.stringify(value)}`)
    await setTimeout(50)
  }
}

async function download({ selector, path, timeout }) {
  const coming = page.waitForEvent('download', { timeout })
  await page.locator(selector).click({ timeout })
  await (await coming).saveAs(path)
}

// Requests whose URL ends like this wait until `release`.
let held = Promise.resolve()
let release = () => {}

async function hold({ ending }) {
  held = new Promise((resolve) => {
    release = resolve
  })
  await page.route(
    (url) => url.pathname.endsWith(ending),
    async (route) => {
      await held
      await route.continue()
    },
  )
}

const actions = {
  hold,
  release: async () => {
    release()
    await page.unrouteAll({ behavior: 'wait' })
  },
  open: ({ url, timeout }) => page.goto(url, { timeout }).then(() => null),
  reload: ({ timeout }) => page.reload({ timeout }).then(() => null),
  evaluate: ({ expression }) => page.evaluate(expression),
  waitUntil,
  click: ({ selector, timeout }) => page.locator(selector).click({ timeout }),
  choose: ({ selector, files, timeout }) =>
    page.locator(selector).setInputFiles(files, { timeout }),
  fill: ({ selector, text, timeout }) => page.locator(selector).fill(text, { timeout }),
  resize: ({ width, height }) => page.setViewportSize({ width, height }).then(() => null),
  prefer: (media) => page.emulateMedia(media).then(() => null),
  screenshot: ({ path }) => page.screenshot({ path, fullPage: true }).then(() => null),
  drop,
  download,
}

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { do: what, id, ...facts } = JSON.parse(line)
  if (what === 'close') {
    await context.close()
    process.exit(0)
  }
  try {
    tell('answer', { id, value: (await actions[what](facts)) ?? null })
  } catch (error) {
    tell('answer', { id, error: String(error.message ?? error) })
  }
})

tell('ready')
