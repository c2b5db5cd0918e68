// @tus/server with @tus/s3-store, as its documentation shows it.
import { Server } from '@tus/server'
import { S3Store } from '@tus/s3-store'

const { env } = process
const datastore = new S3Store({
  partSize: Number(env.BENCH_PART_SIZE),
  s3ClientConfig: {
    bucket: env.BENCH_S3_BUCKET,
    endpoint: env.BENCH_S3_ENDPOINT,
    region: env.AWS_REGION,
    forcePathStyle: true,
    credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
  },
})
new Server({ path: '/files', datastore }).listen({ host: '127.0.0.1', port: Number(env.BENCH_PORT) })
