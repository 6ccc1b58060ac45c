import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { parseFormatName } from '../../shared/delta/formats.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { createDelta } from '../delta/create-delta.ts';
import { readImage } from '../plan/read-image.ts';
import { createTransport } from '../upstream/transport.ts';
import type { DeltaThreadTask, FromDeltaThread, ToDeltaThread } from './delta-thread-messages.ts';

/** Makes one delta in a thread of its own, so that the gateway goes on answering meanwhile. */

const port = parentPort;
if (port === null) throw new Error('this is the program of a worker thread');
const task = workerData as DeltaThreadTask;
const abort = new AbortController();
const published = Promise.withResolvers<void>();
published.promise.catch(() => {});

const say = (message: FromDeltaThread) => port.postMessage(message);

port.on('message', (message: ToDeltaThread) => {
  if (message.kind === 'abort') abort.abort(new SnapgateError('CANCELLED', 'cancelled'));
  if (message.kind === 'published') published.resolve();
  if (message.kind === 'unpublished') {
    const { code, message: text, ...details } = message.error;
    published.reject(new SnapgateError(code, text, details));
  }
});

try {
  // On Linux this holds for this thread and those it starts, and not for the one that answers.
  setPriority(10);
} catch {
  // A sandbox that forbids it costs nothing but smoothness.
}

try {
  say({ kind: 'done', made: await make() });
} catch (thrown) {
  const error = abort.signal.aborted ? abort.signal.reason : toSnapgateError(thrown);
  say({ kind: 'failed', error: error.toJSON() });
} finally {
  port.close();
}

async function make() {
  const { request, temporaryFolder, memoryBytes, effort, indexFolder } = task;
  const { transport, close } = createTransport(task.transport);
  const open = (repository: string, credentials: DeltaThreadTask['sourceCredentials']) =>
    new Repository({ transport, baseUrl: new URL(task.baseUrl), repository, credentials });
  const { signal } = abort;
  try {
    const from = open(request.sourceRepository, task.sourceCredentials);
    const to = open(request.repository, task.targetCredentials);
    const source = await readImage(from, request.sourceManifest, undefined, signal);
    const target = await readImage(to, request.target, undefined, signal);
    const { manifest } = await createDelta({
      source: { reader: from, ...source },
      target: { reader: to, ...target },
      output: {
        hasBlob: (digest) => to.hasBlob(digest),
        putBlob: (blob, body) => to.putBlob(blob, body),
        putManifest: publish,
        listTags: () => to.listTags(),
      },
      ...{ temporaryFolder, memoryBytes, effort, indexFolder, signal },
      format: parseFormatName(request.format) ?? { kind: 'tar-diff' },
      onProgress: (fraction) => say({ kind: 'progress', fraction }),
    });
    return { digest: manifest.digest, size: manifest.bytes.byteLength };
  } finally {
    await close();
  }
}

/** Whoever started the thread holds the keys, and publishes. */
async function publish(manifest: StoredManifest): Promise<void> {
  say({ kind: 'publish', manifest });
  await published.promise;
}
