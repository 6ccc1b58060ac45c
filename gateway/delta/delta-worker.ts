import { join } from 'node:path';
import { parentPort, threadId } from 'node:worker_threads';
import { toSnapgateError } from '../../shared/errors.ts';
import type { FoundMatches, OpenRequest, WorkRequest, WorkResult } from './delta-work.ts';
import { describeContent } from './describe.ts';
import { collectGarbage } from './keep-memory-small.ts';
import { matchStretches } from './match-stretches.ts';
import { membersOf, openPacked } from './open-packed.ts';
import { ScratchFile } from './scratch-file.ts';
import { SpoolFile, stretchSource } from './spool-file.ts';
import { WorkMemory } from './work-memory.ts';
import { encodersFor, findEncoders } from './zstd-program.ts';

/** An idle thread would keep the content of a larger file for long, in bytes. */
const LARGE = 8 * 1024 * 1024;
const encoders = await findEncoders();
const memory = new WorkMemory();
let scratch: ScratchFile | undefined;
const files = new Map<string, SpoolFile>();

function file(path: string): SpoolFile {
  const known = files.get(path);
  if (known !== undefined) return known;
  const opened = new SpoolFile(path);
  files.set(path, opened);
  return opened;
}

async function answer(request: WorkRequest): Promise<WorkResult[WorkRequest['kind']]> {
  if (request.kind === 'tidy') return tidy();
  if (request.kind === 'open') return open(request);
  if (request.kind === 'describe') {
    const { read } = file(request.file);
    return request.stretches.map(({ offset, size }) => describeContent(read, offset, size));
  }
  if (request.kind === 'members') {
    return membersOf(stretchSource(file(request.file).read, request.stretch));
  }
  const old = file(request.oldFile);
  const fresh = { read: file(request.newFile).read, stretch: request.fresh };
  const candidates = request.candidates.map((stretch) => ({ read: old.read, stretch }));
  return matchStretches(fresh, candidates, { ...request, memory });
}

function tidy(): undefined {
  memory.free();
  collectGarbage();
}

async function open({ file: path, stretch, folder, prove, ...request }: OpenRequest) {
  scratch ??= new ScratchFile(join(folder, `unpacked-${threadId}`));
  const source = stretchSource(file(path).read, stretch);
  const { withParses, maxBytes, closed } = request;
  // An encoder takes as much as a match may.
  if (prove !== undefined && memory.size > LARGE) memory.free();
  let dearest = 0;
  const proving = prove && {
    maxMemoryBytes: prove.maxMemoryBytes,
    known: prove.known,
    parses: () => withParses && (dearest === 0 || dearest > prove.laterBytes),
    encoders: encodersFor(encoders, prove.machines),
    onDearer: (bytes: number) => {
      dearest = Math.max(dearest, bytes);
    },
  };
  // V8 leaves chunks in memory until there are many, and collecting them makes room for others.
  let used = 0;
  const onUsed = (bytes: number) => {
    used += bytes;
    if (used < LARGE) return;
    used = 0;
    collectGarbage();
  };
  const parts = await openPacked(source, {
    ...{ scratch, proving, withParses, maxBytes, closed, onUsed },
  });
  if (stretch.size > LARGE) collectGarbage();
  return { parts, dearest };
}

/** What goes to the main thread without being copied. */
function ownedBuffers(result: unknown): ArrayBuffer[] {
  const { matches } = (result ?? {}) as Partial<FoundMatches>;
  return matches === undefined ? [] : [matches.buffer];
}

parentPort?.on('message', async (request: WorkRequest) => {
  try {
    const result = await answer(request);
    parentPort?.postMessage({ result }, ownedBuffers(result));
  } catch (thrown) {
    parentPort?.postMessage({ error: toSnapgateError(thrown).toJSON() });
  }
});
