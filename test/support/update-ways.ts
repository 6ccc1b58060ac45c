import type { Fleet, TestMachine } from './fleet.ts';

/** A way that an update goes. */
export type UpdateWay = 'whole' | 'tar-diff' | 'plain' | 'recompressing';

const TAR_DIFF = 'application/vnd.tar-diff';

/**
 * Makes a machine's next update go a way: what it may ask for is in its configuration, and a tar-diff,
 * which a gateway makes when it is asked for, is made beforehand. Answers with the options of
 * `snaphost update`. `source` is the config digest of what the machine has.
 */
export async function prepareWay(
  fleet: Fleet,
  machine: TestMachine,
  way: UpdateWay,
  pair: { readonly source: string; readonly target: string },
): Promise<string[]> {
  // Without a pause for a delta, a machine takes what is there.
  const waits = { deltaSeconds: way === 'tar-diff' ? 0 : 3600 };
  const limits = way === 'plain' ? { encoderBytes: 0 } : {};
  await machine.configure(fleet.gateway.url, { waits, limits });
  if (way === 'tar-diff') await makeDelta(fleet, { ...pair, format: TAR_DIFF });
  return way === 'whole' ? ['--full'] : [];
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
