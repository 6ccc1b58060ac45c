import { parentPort } from 'node:worker_threads';
import { toSnapgateError } from '../../shared/errors.ts';
import type { WorkRequest, WorkResult } from './delta-work.ts';
import { describeContent } from './describe.ts';
import { matchStretches } from './match-stretches.ts';
import { SpoolFile } from './spool-file.ts';

const files = new Map<string, SpoolFile>();

function file(path: string): SpoolFile {
  const known = files.get(path);
  if (known !== undefined) return known;
  const opened = new SpoolFile(path);
  files.set(path, opened);
  return opened;
}

function answer(request: WorkRequest): WorkResult[WorkRequest['kind']] {
  if (request.kind === 'describe') {
    const { read } = file(request.file);
    return request.stretches.map(({ offset, size }) => describeContent(read, offset, size));
  }
  const old = file(request.oldFile);
  const fresh = { read: file(request.newFile).read, stretch: request.fresh };
  const candidates = request.candidates.map((stretch) => ({ read: old.read, stretch }));
  return matchStretches(fresh, candidates, request);
}

parentPort?.on('message', (request: WorkRequest) => {
  try {
    parentPort?.postMessage({ result: answer(request) });
  } catch (thrown) {
    parentPort?.postMessage({ error: toSnapgateError(thrown).toJSON() });
  }
});
