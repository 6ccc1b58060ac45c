import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import {
  assertBtrfs,
  deleteSubvolumes,
  isSubvolume,
  snapshot,
  subvolumeId,
  syncFileSystem,
} from '../storage/btrfs.ts';
import type { HeldImage } from '../storage/storage.ts';
import { bootId } from '../system/boot-id.ts';
import { syncFolder } from '../system/files.ts';
import { readRecord, writeRecord } from '../system/records.ts';
import { run } from '../system/run.ts';
import {
  type BootSwitch,
  type Deployment,
  type DeploymentRecord,
  deploymentSchema,
  isDeploymentId,
  nextDeploymentId,
} from './deployment.ts';

/** The top of a btrfs file system, which is no system to go back to. */
const TOP_SUBVOLUME = 5;

const historySchema = v.object({
  /** What booted before the last switch: a subvolume, and the deployment that it is, if it is one. */
  previous: v.object({ subvolume: v.number(), deployment: v.optional(v.string()) }),
});

/** The deployment that is being made to boot next; the record goes when it does. */
const makingSchema = v.object({ id: v.string() });

const failuresSchema = v.object({
  failed: v.array(v.object({ manifest: v.string(), reason: v.string(), time: v.string() })),
});
type Failures = v.InferOutput<typeof failuresSchema>['failed'];
/** Most failed images remembered. */
const MAX_FAILURES = 64;

/** Which deployments play which part. */
export type Roles = {
  /** What the machine runs now; undefined when that is no deployment. */
  readonly running: Deployment | undefined;
  /** What it boots next. */
  readonly next: Deployment | undefined;
  /** What it would go back to. */
  readonly rollback: Deployment | undefined;
};

/** How a deployment is made. */
export type DeployOptions = {
  readonly image: Pick<HeldImage, 'config' | 'manifest'>;
  /** Name of the image, with its tag. */
  readonly name: string;
  /** The subvolume of the image's top layer, or a deployment to go on from. */
  readonly top: string;
  /** Makes the snapshot fit for this machine, before it counts as a deployment. */
  readonly prepare?: (path: string, id: string) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
};

/**
 * The deployments of a machine: a folder with one subvolume and one record each. The record is
 * written last, so a subvolume without one was never finished, and {@link Deployments.recover}
 * removes it.
 */
export class Deployments {
  readonly folder: string;
  readonly #root: string;
  readonly #boot: BootSwitch;

  /** `root` is the machine's `/`: what is mounted there is what runs. */
  constructor(folder: string, root: string, boot: BootSwitch) {
    this.folder = folder;
    this.#root = root;
    this.#boot = boot;
  }

  /** Whether what is not proved runs out of tries by itself. */
  get countsTries(): boolean {
    return this.#boot.countsTries;
  }

  /** Removes what an interrupted run has left. Throws NOT_BTRFS, COMMAND_FAILED. */
  async recover(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await assertBtrfs(this.folder);
    const making = await readRecord(this.#makingPath, makingSchema).catch(() => undefined);
    if (making !== undefined) await this.#finish(making.id);
    const names = await readdir(this.folder);
    for (const name of names) {
      const path = join(this.folder, name);
      const id = name.replace(/\.json$/, '');
      if (name.endsWith('.tmp')) await rm(path, { force: true });
      if (!isDeploymentId(id) || names.includes(name === id ? `${id}.json` : id)) continue;
      if (name !== id) await rm(path, { force: true });
      else await removeTree(path);
    }
  }

  /** All deployments, newest first. */
  async list(): Promise<Deployment[]> {
    const names = await readdir(this.folder).catch(() => []);
    const found: Deployment[] = [];
    for (const id of names.filter(isDeploymentId)) {
      const path = join(this.folder, id);
      const record = await readRecord(this.#recordPath(id), deploymentSchema);
      if (record === undefined || !(await isSubvolume(path))) continue;
      found.push({ ...record, path, subvolume: await subvolumeId(path) });
    }
    return found.sort((a, b) => (a.created < b.created ? 1 : -1));
  }

  /** Which deployment runs, which boots next, and which one a rollback leads to. */
  async roles(all: readonly Deployment[]): Promise<Roles> {
    if (all.length === 0) return { running: undefined, next: undefined, rollback: undefined };
    const nextId = await this.#boot.next();
    const runningId = await subvolumeId(this.#root).catch(() => undefined);
    const next = all.find(({ subvolume }) => subvolume === nextId);
    const previous = (await this.#history())?.previous.deployment;
    const others = all.filter((one) => one.id !== next?.id && one.state !== 'bad');
    const rollback = others.find(({ id }) => id === previous) ?? others[0];
    return { running: all.find(({ subvolume }) => subvolume === runningId), next, rollback };
  }

  /** Id of the subvolume that boots next, whether that is a deployment or not. */
  nextSubvolume(): Promise<number> {
    return this.#boot.next();
  }

  /** Makes a deployment of an image, of the id `known` or the next one. Nothing boots it yet. */
  async create(options: DeployOptions, known?: string): Promise<Deployment> {
    const { image, name, top, prepare, signal } = options;
    if (image.manifest === undefined) {
      throw new SnapgateError('STORAGE_INVALID', 'the image has no manifest', { where: name });
    }
    const id = known ?? nextDeploymentId(image.config, await this.list());
    const path = join(this.folder, id);
    await snapshot(top, path, {
      signal,
      hint: 'The folder of deployments must be on the file system of the storage of Podman.',
    });
    await prepare?.(path, id);
    await syncFileSystem(this.folder);
    const record: DeploymentRecord = {
      ...{ version: 1, id, image: name, manifest: image.manifest, config: image.config },
      ...{ created: new Date().toISOString(), state: 'staged', pinned: false },
      boot: await bootId(),
    };
    await writeRecord(this.#recordPath(id), record);
    return { ...record, path, subvolume: await subvolumeId(path) };
  }

  /**
   * Makes a deployment of an image the one that boots next. Until it is, everything of it goes with
   * the next {@link Deployments.recover}.
   */
  async install(options: DeployOptions): Promise<Deployment> {
    const id = nextDeploymentId(options.image.config, await this.list());
    await writeRecord(this.#makingPath, { id });
    const deployment = await this.create(options, id);
    options.signal?.throwIfAborted();
    await this.switchTo(deployment);
    await this.#finish(id);
    return deployment;
  }

  /** Removes a deployment that was to boot next and does not, unless it has failed meanwhile. */
  async #finish(id: string): Promise<void> {
    const all = await this.list();
    const made = all.find((one) => one.id === id);
    const { running, next } = await this.roles(all);
    const isTried = made?.state === 'bad' || (await this.#boot.failed()).includes(id);
    if (made !== undefined && !isTried && id !== next?.id && id !== running?.id) {
      await this.remove(made);
    }
    await rm(this.#makingPath, { force: true });
    await syncFolder(this.folder);
  }

  /** Makes a deployment the one that boots next; the switch itself is the last and atomic step. */
  async switchTo(deployment: Deployment): Promise<void> {
    if (deployment.subvolume !== (await this.#boot.next())) await this.#remember();
    if (deployment.state !== 'good') await this.setState(deployment, 'trying');
    await this.#boot.choose(deployment);
  }

  /**
   * Goes back to what booted before the first deployment. Throws NOTHING_TO_DO when that is not
   * known or was no system.
   */
  async switchToOrigin(): Promise<number> {
    const previous = (await this.#history())?.previous;
    if (previous === undefined || previous.deployment || previous.subvolume === TOP_SUBVOLUME) {
      throw new SnapgateError('NOTHING_TO_DO', 'there is nothing to go back to', {
        hint: 'snaphost list shows what there is.',
      });
    }
    await this.#remember();
    await this.#boot.chooseSubvolume(previous.subvolume);
    return previous.subvolume;
  }

  /** Notes what became of a deployment. */
  async setState(
    deployment: Deployment,
    state: DeploymentRecord['state'],
    reason?: string,
  ): Promise<void> {
    const { path: _path, subvolume: _subvolume, reason: _old, ...record } = deployment;
    const why = reason === undefined ? {} : { reason };
    // The record comes last: without it, all of this is done again.
    if (state === 'good') await this.#boot.bless(deployment.id);
    if (state === 'good' || state === 'bad') await this.#rememberOutcome(record, state, reason);
    await writeRecord(this.#recordPath(deployment.id), { ...record, state, ...why });
  }

  /** Why an image failed on this machine, also when its deployment is gone; undefined if it did not. */
  async failureOf(manifest: string): Promise<string | undefined> {
    return (await this.#failures()).find((one) => one.manifest === manifest)?.reason;
  }

  /** Marks the deployments whose tries the boot loader has used up, and names them. */
  async markFailed(running: Deployment | undefined): Promise<Deployment[]> {
    const used = new Set(await this.#boot.failed());
    const failed = (await this.list()).filter(
      (one) => used.has(one.id) && one.id !== running?.id && one.state === 'trying',
    );
    for (const one of failed) {
      await this.setState(one, 'bad', one.reason ?? 'it did not boot as often as it was tried');
    }
    return failed;
  }

  #failures(): Promise<Failures> {
    const path = join(this.folder, 'failed.json');
    return readRecord(path, failuresSchema).then((record) => record?.failed ?? []);
  }

  async #rememberOutcome(
    { manifest }: DeploymentRecord,
    state: 'good' | 'bad',
    reason = 'no reason given',
  ): Promise<void> {
    const before = await this.#failures();
    const others = before.filter((one) => one.manifest !== manifest);
    if (state === 'good' && others.length === before.length) return;
    const failure = { manifest, reason, time: new Date().toISOString() };
    const failed = state === 'bad' ? [failure, ...others] : others;
    await writeRecord(join(this.folder, 'failed.json'), { failed: failed.slice(0, MAX_FAILURES) });
  }

  /**
   * Removes a deployment: what boots it first, then its record, so that a crash leaves what recovery
   * removes.
   */
  async remove(deployment: Deployment): Promise<void> {
    await this.#boot.forget(deployment.id);
    await rm(this.#recordPath(deployment.id), { force: true });
    await syncFolder(this.folder);
    await removeTree(deployment.path);
  }

  get #makingPath(): string {
    return join(this.folder, 'making.json');
  }

  #recordPath(id: string): string {
    return join(this.folder, `${id}.json`);
  }

  #history(): Promise<v.InferOutput<typeof historySchema> | undefined> {
    return readRecord(join(this.folder, 'history.json'), historySchema);
  }

  async #remember(): Promise<void> {
    const subvolume = await this.#boot.next();
    const current = (await this.list()).find((one) => one.subvolume === subvolume);
    const deployment = current === undefined ? {} : { deployment: current.id };
    await writeRecord(join(this.folder, 'history.json'), {
      previous: { subvolume, ...deployment },
    });
  }
}

/** Deletes a subvolume with those inside of it. */
async function removeTree(path: string): Promise<void> {
  if (!(await isSubvolume(path))) {
    await rm(path, { recursive: true, force: true });
    return;
  }
  const { stdout } = await run('btrfs', ['subvolume', 'list', '-o', path]);
  const inner = stdout.split('\n').map((line) => / path (.*)$/.exec(line)?.[1]);
  const name = path.slice(path.lastIndexOf('/') + 1);
  for (const listed of inner) {
    const below = listed?.split(`/${name}/`)[1] ?? listed?.split(`${name}/`)[1];
    if (below !== undefined) await removeTree(join(path, below));
  }
  await deleteSubvolumes([path]);
}
