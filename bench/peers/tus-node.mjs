// @tus/server with @tus/s3-store, as its documentation shows it.
import { appendFileSync } from 'node:fs'
import { Server } from '@tus/server'
import { S3Store } from '@tus/s3-store'

const { env } = process
const datastore = new S3Store({
  partSize: Number(env.BENCH_PART_SIZE),
  ...(env.BENCH_MAX_PARTS && { maxMultipartParts: Number(env.BENCH_MAX_PARTS) }),
  s3ClientConfig: {
    bucket: env.BENCH_S3_BUCKET,
    endpoint: env.BENCH_S3_ENDPOINT,
    region: env.AWS_REGION,
    forcePathStyle: true,
    credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
  },
})
// What an application is told; only where the reliability run asks for it.
const onUploadFinish = async (_request, upload) => {
  appendFileSync(env.BENCH_HOOKS, `${upload.id}\n`)
  return {}
}
const hooks = env.BENCH_HOOKS ? { onUploadFinish } : {}
new Server({ path: '/files', datastore, ...hooks }).listen({ host: '127.0.0.1', port: Number(env.BENCH_PORT) })
