import type { Digest } from '../../shared/digest.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Deployment } from '../deploy/deployment.ts';
import type { Roles } from '../deploy/deployments.ts';
import { syncFileSystem } from '../storage/btrfs.ts';
import type { HeldImage } from '../storage/storage.ts';
import { bootId } from '../system/boot-id.ts';
import { freeSpaceAt } from '../system/free-space.ts';
import { run } from '../system/run.ts';
import type { Machine } from './machine.ts';

/** What `gc --json` prints. */
export type GcReport = {
  /** Ids of the deployments that were removed, and of those that stay. */
  readonly removedDeployments: readonly string[];
  readonly keptDeployments: readonly string[];
  /** Config digests of the images that were removed. */
  readonly removedImages: readonly Digest[];
  /** Images that could not be removed, and why. */
  readonly failedImages: readonly { readonly image: Digest; readonly reason: string }[];
  /** Bytes of removed downloads. */
  readonly downloadBytes: number;
  /** Bytes that became free on the file system of Podman's storage. */
  readonly freedBytes: number;
};

/**
 * The deployments that stay: what runs, what boots next, what a rollback leads to, what is pinned, what
 * was made during this boot (`boot`) and not chosen yet, and the `keep` newest of the others that are
 * not bad.
 */
export function deploymentsToKeep(
  all: readonly Deployment[],
  roles: Roles,
  keep: number,
  boot = '',
): ReadonlySet<string> {
  const { running, next, rollback } = roles;
  // A transaction of tukit makes its snapshot with one command, and has it boot with another.
  const isInProgress = (one: Deployment) =>
    one.state === 'staged' && boot !== '' && one.boot === boot;
  const held = all.filter((one) => one.pinned || isInProgress(one));
  const must = new Set([running, next, rollback, ...held].flatMap((one) => one?.id ?? []));
  const spare = all.filter((one) => !must.has(one.id) && one.state !== 'bad').slice(0, keep);
  return new Set([...must, ...spare.map((one) => one.id)]);
}

/**
 * Removes deployments that are not kept, the images of the machine's repository that no deployment
 * needs, and downloads that nothing waits for. Other images are not touched.
 */
export async function collectGarbage(machine: Machine, keep: number): Promise<GcReport> {
  const { deployments, events, storage } = machine;
  events.step('collect');
  await deployments.recover();
  await storage.tidy();
  const before = (await freeSpaceAt(storage.graphRoot)).free;
  const all = await deployments.list();
  const kept = deploymentsToKeep(all, await deployments.roles(all), keep, await bootId());
  const removed = all.filter((one) => !kept.has(one.id));
  for (const one of removed) await deployments.remove(one);
  const staying = all.filter((one) => kept.has(one.id));
  const images = await removeImages(machine, removed, staying);
  const downloadBytes = await removeDownloads(machine);
  // Deleted subvolumes are emptied once the deletion is on the disk.
  await syncFileSystem(storage.graphRoot);
  await run('btrfs', ['subvolume', 'sync', storage.graphRoot]);
  return {
    removedDeployments: removed.map((one) => one.id),
    keptDeployments: staying.map((one) => one.id),
    ...images,
    downloadBytes,
    freedBytes: Math.max(0, (await freeSpaceAt(storage.graphRoot)).free - before),
  };
}

async function removeImages(
  { config, storage, events }: Machine,
  removed: readonly Deployment[],
  staying: readonly Deployment[],
): Promise<Pick<GcReport, 'removedImages' | 'failedImages'>> {
  // A machine without a deployment has nothing else to start from than its images.
  if (staying.length === 0) return { removedImages: [], failedImages: [] };
  const needed = new Set(staying.map((one) => one.config));
  const formerly = new Set(removed.map((one) => one.config));
  const isOurs = (image: HeldImage) =>
    formerly.has(image.config) || image.names.some((name) => name.startsWith(`${config.name}:`));
  const removedImages: Digest[] = [];
  const failedImages: { image: Digest; reason: string }[] = [];
  for (const image of await storage.listImages()) {
    if (needed.has(image.config) || !isOurs(image)) continue;
    try {
      await storage.removeImage(image);
      removedImages.push(image.config);
    } catch (thrown) {
      const reason = toSnapgateError(thrown).message;
      events.notice(`image ${image.config} stays: ${reason}`);
      failedImages.push({ image: image.config, reason });
    }
  }
  return { removedImages, failedImages };
}

/** What an update that did not end needs when it goes on stays. */
async function removeDownloads({ state, downloads }: Machine): Promise<number> {
  const result = (await state.lastAttempt())?.result;
  if (result === 'downloaded' || result === 'failed') return 0;
  return downloads.remove(() => true);
}
