import { encoderBytes, readableFormats } from '../../host-client/update/encoders.ts';
import { formatName } from '../../shared/delta/formats.ts';
import type { Fleet, TestMachine } from './fleet.ts';

/** A way that an update goes. */
export type UpdateWay = 'whole' | 'tar-diff' | 'plain' | 'recompressing';

/**
 * Makes a machine's next update go a way: the delta is made beforehand, and the machine waits for no
 * other. Of the ready ones it takes the smallest that it reads. Answers with the options of `snaphost
 * update`. `source` is the config digest of what the machine has.
 */
export async function prepareWay(
  fleet: Fleet,
  machine: TestMachine,
  way: UpdateWay,
  pair: { readonly source: string; readonly target: string },
): Promise<string[]> {
  const limits = way === 'recompressing' ? {} : { encoderBytes: 0 };
  await machine.configure(fleet.gateway.url, { waits: { deltaSeconds: 0 }, limits });
  if (way === 'whole') return ['--full'];
  await makeDelta(fleet, { ...pair, format: await nameOf(way) });
  return [];
}

async function nameOf(way: Exclude<UpdateWay, 'whole'>): Promise<string> {
  if (way === 'tar-diff') return formatName({ kind: way });
  if (way === 'plain') return formatName({ kind: 'snapgate' });
  const [format] = await readableFormats(encoderBytes(undefined));
  if (format?.kind !== 'snapgate' || format.recompress === undefined) {
    throw new Error('this machine packs nothing again');
  }
  return formatName(format);
}

/** Has the gateway make a delta, and waits for it. */
async function makeDelta(fleet: Fleet, request: object): Promise<void> {
  const url = `${fleet.gateway.url}/v2/os/image/_snapgate/deltas`;
  const headers = { 'content-type': 'application/json' };
  let answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(request) });
  for (;;) {
    const job = (await answer.json()) as { artifact?: object; state: string };
    if (job.artifact !== undefined) return;
    if (answer.status !== 202) throw new Error(`no delta was made: ${JSON.stringify(job)}`);
    const next = new URL(answer.headers.get('location') ?? '', url);
    await new Promise((resolve) => setTimeout(resolve, 500));
    answer = await fetch(next);
  }
}
