// Bundles a script with what it imports from `node_modules`: node bundle.mjs SOURCE TARGET

import { build } from 'esbuild'

const [source, target] = process.argv.slice(2)
await build({ entryPoints: [source], outfile: target, bundle: true, format: 'esm' })
