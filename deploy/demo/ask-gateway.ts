import { setTimeout as sleep } from 'node:timers/promises';
import { encoderBytes, readableFormats } from '../../host-client/update/encoders.ts';
import { formatName } from '../../shared/delta/formats.ts';
import type { DeltaJob, Plan } from '../../shared/plan.ts';
import type { Stage } from './stage.ts';

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

/**
 * Has the gateway make the delta between two images (digests of their manifests and configs), in the
 * format that it would make it in for a machine. Answers with the digest of the delta's manifest.
 */
export async function requestDelta(
  stage: Stage,
  gateway: string,
  repository: string,
  sourceConfig: string,
  target: string,
): Promise<string> {
  const base = `http://${gateway}/v2/${repository}/_snapgate/`;
  const formats = await readableFormats(encoderBytes(undefined));
  const asked = { target, have: [sourceConfig], formats: formats.map(formatName) };
  const plan = (await (await post(`${base}plan`, asked)).json()) as Partial<Plan>;
  const way = plan.ways?.find((one) => one.method === 'delta');
  if (way?.artifact !== undefined) return way.artifact.digest;
  if (way === undefined) throw new Error(`no delta is offered: ${JSON.stringify(plan)}`);
  const url = `${base}deltas`;
  let answer = await post(url, { source: sourceConfig, target, format: way.format });
  for (;;) {
    const job = (await answer.json()) as Partial<DeltaJob>;
    if (job.artifact !== undefined) return job.artifact.digest;
    if (answer.status !== 202) throw new Error(`no delta was made: ${JSON.stringify(job)}`);
    const next = new URL(answer.headers.get('location') ?? '', url);
    await sleep(200, undefined, { signal: stage.signal });
    answer = await fetch(next);
  }
}

function post(url: string, body: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
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
