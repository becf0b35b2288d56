// A collecting service that speaks tus 1.0.0 on loopback, and does what its finish hook must do to be believed:
// hash and flush the finished file, refuse one that has other bytes than announced, keep it under its key without
// replacing anything, answer with the digest it has, and again whenever it is asked. See docs/store-tus.md.
// Environment: TUS_PORT, TUS_FOLDER (uploads), TUS_KEPT (what was finished, by key; on the same filesystem),
// TUS_TOKEN (if set, clients must bear it), TUS_MISBEHAVE (see below).
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { chmod, link, mkdir, open } from 'node:fs/promises'
import { createServer } from 'node:http'
import path from 'node:path'
import process from 'node:process'
import { pipeline } from 'node:stream/promises'
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const PATH = '/files'
const CHECKSUM_MISMATCH = 460 // the status of the tus extension "checksum"
const KEY =
  /^((originals|probes)\/[0-9a-f]{2}\/[0-9a-f]{64}|checkpoints\/[A-Za-z0-9][\w.-]*\/\d{8,})$/ // a key that is anything else could lead anywhere
const {
  TUS_PORT: port, TUS_FOLDER: directory, TUS_KEPT: kept, TUS_TOKEN: token = '', TUS_MISBEHAVE = '',
} = process.env
const store = new FileStore({ directory })

// no-digest: the answer proves nothing. no-get: what is finished can't be read back. fail-once: the first finish of
// each upload answers 500. flip-early: a byte is wrong before it is hashed. flip-late: afterwards, so nobody notices.
const misbehaves = new Set(TUS_MISBEHAVE.split(',').filter(Boolean))
const failed = new Set()

const isAllowed = (authorization) => !token || authorization === `Bearer ${token}`

async function hashAndFlush(file) {
  const hash = createHash('sha256')
  for await (const piece of file.createReadStream({ start: 0, autoClose: false })) hash.update(piece)
  await file.sync()
  return hash.digest()
}

async function flipFirstByte(file) {
  const byte = Buffer.alloc(1)
  const { bytesRead } = await file.read(byte, 0, 1, 0)
  if (bytesRead) await file.write(Buffer.from([byte[0] ^ 1]), 0, 1, 0)
}

function reprDigest(digest) {
  return `sha-256=:${digest.toString('base64')}:`
}

function mismatch(digest) {
  return { status_code: CHECKSUM_MISMATCH, body: `has SHA-256 ${digest.toString('hex')}\n` }
}

async function flushFolders(folder, top) {
  for (; folder.startsWith(top); folder = path.dirname(folder)) {
    const opened = await open(folder)
    await opened.sync().finally(() => opened.close())
  }
}

async function keep(upload, digest) {
  if (!KEY.test(upload.metadata.key)) throw { status_code: 400, body: 'no such key\n' }
  const target = path.join(kept, upload.metadata.key)
  await mkdir(path.dirname(target), { recursive: true })
  try {
    await link(path.join(directory, upload.id), target) // never replaces
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    const file = await open(target)
    const there = await hashAndFlush(file).finally(() => file.close())
    if (!there.equals(digest)) throw mismatch(there)
  }
  await flushFolders(path.dirname(target), kept)
  // From here on HEAD answers with the digest, so nobody needs to open the file for writing to have it finished again.
  upload.metadata.kept = digest.toString('hex')
  await store.configstore.set(upload.id, upload)
  await chmod(target, 0o440) // a real service locks here: WORM storage, or at least the immutable flag
}

async function onIncomingRequest(request) {
  if (!isAllowed(request.headers.get('authorization'))) throw { status_code: 401, body: 'not for you\n' }
}

async function onUploadFinish(_request, upload) {
  if (misbehaves.has('fail-once') && !failed.has(upload.id)) {
    failed.add(upload.id)
    throw { status_code: 500, body: 'the hook failed\n' }
  }
  const file = await open(path.join(directory, upload.id), 'r+')
  let digest
  try {
    if (misbehaves.has('flip-early')) await flipFirstByte(file)
    digest = await hashAndFlush(file)
    if (misbehaves.has('flip-late')) await flipFirstByte(file)
  } finally {
    await file.close()
  }
  const announced = upload.metadata?.sha256
  if (announced && announced.toLowerCase() !== digest.toString('hex')) throw mismatch(digest)
  if (upload.metadata?.key) await keep(upload, digest)
  return misbehaves.has('no-digest') ? {} : { headers: { 'Repr-Digest': reprDigest(digest) } }
}

const tus = new Server({
  path: PATH,
  datastore: store,
  relativeLocation: true,
  disableTerminationForFinishedUploads: true,
  onIncomingRequest,
  onUploadFinish,
})

// Its own GET ends the whole process on Node.js 24 now and then ("ReadableStream is already closed").
async function readBack(request, response) {
  const id = path.basename(request.url)
  const upload = await store.getUpload(id).catch(() => null)
  let status = 200
  if (!isAllowed(request.headers.authorization)) status = 401
  else if (misbehaves.has('no-get')) status = 403
  else if (!upload || upload.offset !== upload.size) status = 404
  if (status !== 200) return response.writeHead(status, { 'Content-Length': 0 }).end()
  response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': upload.size })
  await pipeline(store.read(id), response).catch(() => response.destroy())
}

async function tellDigest(request, response) {
  const upload = await store.getUpload(path.basename(request.url)).catch(() => null)
  const digest = upload?.metadata?.kept
  if (digest) response.setHeader('Repr-Digest', reprDigest(Buffer.from(digest, 'hex')))
}

createServer(async (request, response) => {
  if (request.method === 'GET') return readBack(request, response)
  if (request.method === 'HEAD' && !misbehaves.has('no-digest')) await tellDigest(request, response)
  return tus.handle(request, response)
}).listen({ host: '127.0.0.1', port: Number(port) })
