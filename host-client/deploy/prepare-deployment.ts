import { join } from 'node:path';
import { prepareRoot } from '../root/prepare-root.ts';
import type { Machine } from '../update/machine.ts';

/**
 * Makes a new snapshot fit for the machine that it is on: its configuration and its mounts. On a
 * machine that `snaphost install` did not lay out, the snapshot stays as the image has it.
 */
export async function prepareDeployment(
  {
    config,
    deployments,
    events,
    storage,
  }: Pick<Machine, 'config' | 'deployments' | 'events' | 'storage'>,
  path: string,
  id: string,
): Promise<void> {
  if (config.machine === undefined) return;
  const { running } = await deployments.roles(await deployments.list());
  const image =
    running === undefined
      ? undefined
      : (await storage.listImages()).find((one) => one.config === running.config);
  const top = image?.layerIds.at(-1);
  if (running !== undefined && top === undefined) {
    events.notice(`image ${running.config} is gone: all of /etc counts as changed here`);
  }
  // Without the running image's own /etc, nothing tells what this machine changed: keep it all.
  const base = top === undefined ? join(path, '.no-image') : storage.subvolumeOf(top);
  const { notes } = await prepareRoot({
    ...{ root: path, deployment: id, devices: config.machine },
    previous: running === undefined ? undefined : { image: base, etc: join(config.root, 'etc') },
  });
  for (const note of notes) events.notice(`/etc/${note}`);
}
