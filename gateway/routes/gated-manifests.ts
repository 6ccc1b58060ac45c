import { Readable } from 'node:stream';
import { type Digest, isDigest, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { MAX_MANIFEST_BYTES, manifestMediaType } from '../../shared/oci/manifest.ts';
import { readBody } from '../../shared/registry/transport.ts';
import type { Gate } from '../policy/gate.ts';
import { headerValue } from '../upstream/headers.ts';
import { discard, type UpstreamAnswer } from '../upstream/upstream.ts';
import { type Exchange, passOn } from './pass-on.ts';

/** Headers by which a client could ask for less than the whole manifest, or for it packed. */
const PARTIAL = ['accept-encoding', 'range', 'if-range'];

/**
 * Asks the registry for a manifest and lets it through the gate: what is answered is in memory by
 * then, and is what was judged. Throws DENIED, LIMIT_EXCEEDED, MANIFEST_INVALID, and what judging
 * throws.
 */
export async function askGated(
  repository: string,
  reference: string,
  call: Exchange,
  gate: Gate,
): Promise<UpstreamAnswer> {
  const headers = { ...call.headers };
  for (const name of PARTIAL) delete headers[name];
  const answer = await passOn({ ...call, headers });
  if (answer.status !== 200) return refuseOddities(answer, repository);
  if (call.c.req.method === 'HEAD') {
    await checkHead(repository, reference, call, gate, answer);
    return answer;
  }
  const { bytes, truncated } = await readBody(answer.body, MAX_MANIFEST_BYTES);
  if (truncated) {
    throw new SnapgateError('LIMIT_EXCEEDED', 'the manifest is over 4 MiB', { where: repository });
  }
  const stored = storedOf(bytes, headerValue(answer.headers, 'content-type'));
  await checkStored(repository, reference, stored, call, gate);
  return { status: answer.status, headers: answer.headers, body: Readable.from([bytes]) };
}

/** Lets a manifest through that a client pushes. Gives its bytes. Throws as {@link askGated}. */
export async function readPushed(
  repository: string,
  reference: string,
  call: Exchange,
  gate: Gate,
): Promise<Uint8Array> {
  const { bytes, truncated } = await readBody(call.body ?? Readable.from([]), MAX_MANIFEST_BYTES);
  if (truncated) {
    throw new SnapgateError('LIMIT_EXCEEDED', 'the manifest is over 4 MiB', { where: repository });
  }
  const stored = storedOf(bytes, headerValue(call.headers, 'content-type'));
  await checkStored(repository, reference, stored, call, gate);
  return bytes;
}

/** A part of a manifest, or another success, is nothing that could be judged. */
function refuseOddities(answer: UpstreamAnswer, where: string): UpstreamAnswer {
  if (answer.status >= 300) return answer;
  discard(answer);
  throw new SnapgateError('UPSTREAM_FAILED', `the registry answered ${answer.status}`, { where });
}

async function checkHead(
  repository: string,
  reference: string,
  call: Exchange,
  gate: Gate,
  answer: UpstreamAnswer,
): Promise<void> {
  const named = headerValue(answer.headers, 'docker-content-digest') ?? reference;
  const reader = readerOf(repository, call);
  try {
    const stored = await reader.getManifest(isDigest(named) ? named : reference, call.signal);
    await checkStored(repository, reference, stored, call, gate);
  } catch (thrown) {
    discard(answer);
    throw thrown;
  }
}

function checkStored(
  repository: string,
  reference: string,
  stored: StoredManifest,
  call: Exchange,
  gate: Gate,
): Promise<void> {
  const { signal } = call;
  const reader = readerOf(repository, call);
  return gate.check({ repository, reference, stored, reader, signal });
}

function readerOf(repository: string, { deps, headers }: Exchange) {
  return deps.openRepository(repository, headerValue(headers, 'authorization'));
}

function storedOf(bytes: Uint8Array, contentType: string | undefined): StoredManifest {
  const digest: Digest = sha256(bytes);
  return { digest, bytes, mediaType: manifestMediaType(bytes, contentType ?? '') };
}
