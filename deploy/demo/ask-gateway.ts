import { setTimeout as sleep } from 'node:timers/promises';
import type { Json, Stage } from './stage.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** Digest of the manifest that a tag means. */
export async function digestOf(gateway: string, repository: string, tag: string): Promise<string> {
  const answer = await fetch(`http://${gateway}/v2/${repository}/manifests/${tag}`, {
    method: 'HEAD',
    headers: { accept: MANIFEST },
  });
  const digest = answer.headers.get('docker-content-digest');
  if (digest === null) throw new Error(`the gateway named no digest (${answer.status})`);
  return digest;
}

/** Has the gateway make a delta, as a machine would. Answers with the digest of its manifest. */
export async function requestDelta(
  stage: Stage,
  gateway: string,
  repository: string,
  source: string,
  target: string,
): Promise<string> {
  const url = new URL(`http://${gateway}/v2/${repository}/_snapgate/deltas`);
  let answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ source, target }),
  });
  for (let next = url; ; answer = await fetch(next)) {
    const job = (await answer.json()) as { artifact?: { digest: string } } & Json;
    if (job.artifact !== undefined) return job.artifact.digest;
    if (answer.status !== 202) throw new Error(`no delta was made: ${JSON.stringify(job)}`);
    next = new URL(answer.headers.get('location') ?? next, url);
    await sleep(200, undefined, { signal: stage.signal });
  }
}

/** A blob of a delta, as its manifest describes it. */
type DeltaLayer = {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
};

/** The manifest of a delta. */
export async function readDelta(
  gateway: string,
  repository: string,
  digest: string,
): Promise<{ layers: DeltaLayer[] }> {
  const url = `http://${gateway}/v2/${repository}/manifests/${digest}`;
  const answer = await fetch(url, { headers: { accept: MANIFEST } });
  return (await answer.json()) as Awaited<ReturnType<typeof readDelta>>;
}
