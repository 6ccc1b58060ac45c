import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import type { Deployment } from '../deploy/deployment.ts';
import type { DeployOptions } from '../deploy/deployments.ts';
import { prepareDeployment } from '../deploy/prepare-deployment.ts';
import { prepareRoot } from '../root/prepare-root.ts';
import {
  isReadOnlySubvolume,
  isSubvolume,
  setReadOnlySubvolume,
  snapshot,
  subvolumeId,
} from '../storage/btrfs.ts';
import type { HeldImage } from '../storage/storage.ts';
import { channelName, type Machine } from '../update/machine.ts';
import { deploymentSnapshotId, imageSnapshotId, parseSnapshotId } from './snapshot-id.ts';

type FoundImage = { readonly kind: 'image'; readonly image: HeldImage; readonly path: string };
type Found =
  | FoundImage
  | { readonly kind: 'deployment'; readonly deployment: Deployment; readonly path: string };

/** A snapshot as tukit lists it. */
export type ListedSnapshot = { readonly id: string; readonly readOnly: boolean };

/**
 * The machine as tukit sees it: images of Podman, which nobody writes to, and writable snapshots made
 * from them, which are the machine's deployments. Whoever changes anything holds the machine's lock.
 */
export class Snapshots {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** What runs now. Throws NOTHING_TO_DO when that is neither a deployment nor an image. */
  async current(): Promise<string> {
    return this.#named(await subvolumeId(this.#machine.config.root), 'what runs now');
  }

  /** What boots next. Throws NOTHING_TO_DO when that is neither a deployment nor an image. */
  async default(): Promise<string> {
    return this.#named(await this.#machine.deployments.nextSubvolume(), 'what boots next');
  }

  /** All images and all deployments. */
  async list(): Promise<ListedSnapshot[]> {
    const { deployments, storage } = this.#machine;
    const images = (await storage.listImages()).map((image) => ({
      id: imageSnapshotId(image),
      readOnly: true,
    }));
    const found: ListedSnapshot[] = [];
    for (const one of await deployments.list()) {
      const readOnly = await isReadOnlySubvolume(one.path);
      found.push({ id: deploymentSnapshotId(one), readOnly });
    }
    return [...images, ...found];
  }

  /** All images. */
  images(): Promise<HeldImage[]> {
    return this.#machine.storage.listImages();
  }

  /** The root folder of a snapshot. Throws NOTHING_TO_DO when there is none of this id. */
  async root(id: string): Promise<string> {
    return (await this.#find(id)).path;
  }

  /** Whether a snapshot cannot be written to; an image never is. */
  async isReadOnly(id: string): Promise<boolean> {
    const { kind, path } = await this.#find(id);
    return kind === 'image' || (await isReadOnlySubvolume(path));
  }

  /** Lets a snapshot be written to or not. Throws UNSUPPORTED when an image is to become writable. */
  async setReadOnly(id: string, readOnly: boolean): Promise<void> {
    const { kind, path } = await this.#find(id);
    if (kind === 'deployment') return setReadOnlySubvolume(path, readOnly);
    if (readOnly) return;
    throw new SnapgateError('UNSUPPORTED', 'an image stays as it was published', {
      where: id,
      hint: 'Make a snapshot of it with create-snapshot.',
    });
  }

  /** Makes a writable snapshot of an image or of another snapshot, and gives its id. */
  async create(base: string): Promise<string> {
    return deploymentSnapshotId(await this.#create(await this.#find(base)));
  }

  /** Makes a snapshot boot next; an image gets a writable snapshot first, and that boots. */
  async switchTo(id: string): Promise<void> {
    const { deployments } = this.#machine;
    const found = await this.#find(id);
    if (found.kind === 'deployment') await deployments.switchTo(found.deployment);
    else await deployments.install(this.#ofImage(found));
  }

  /** Removes a snapshot or an image. Throws UNSUPPORTED for what runs or boots next. */
  async remove(id: string): Promise<void> {
    const { deployments, storage } = this.#machine;
    const found = await this.#find(id);
    if (found.kind === 'image') return storage.removeImage(found.image);
    const used = [
      await deployments.nextSubvolume(),
      await subvolumeId(this.#machine.config.root).catch(() => undefined),
    ];
    if (used.includes(found.deployment.subvolume)) {
      throw new SnapgateError('UNSUPPORTED', 'what runs or boots next is not removed', {
        where: id,
        hint: 'Switch to another snapshot first, and start it.',
      });
    }
    await deployments.remove(found.deployment);
  }

  /** Removes the image that has a name. Throws NOTHING_TO_DO. */
  async removeNamed(name: string): Promise<void> {
    const { storage } = this.#machine;
    const image = (await storage.listImages()).find((one) => one.names.includes(name));
    if (image === undefined) throw unknown(name);
    await storage.removeImage(image);
  }

  async #find(text: string): Promise<Found> {
    const { deployments, storage } = this.#machine;
    const { config, work } = parseSnapshotId(text);
    if (work === undefined) {
      const image = (await storage.listImages()).find((one) => one.config === config);
      const top = image?.layerIds.at(-1);
      if (image === undefined || top === undefined) throw unknown(text);
      return { kind: 'image', image, path: storage.subvolumeOf(top) };
    }
    const all = await deployments.list();
    const deployment = all.find((one) => deploymentSnapshotId(one) === text);
    if (deployment === undefined) throw unknown(text);
    return { kind: 'deployment', deployment, path: deployment.path };
  }

  async #named(subvolume: number, what: string): Promise<string> {
    const { deployments, storage } = this.#machine;
    const deployment = (await deployments.list()).find((one) => one.subvolume === subvolume);
    if (deployment !== undefined) return deploymentSnapshotId(deployment);
    for (const image of await storage.listImages()) {
      const path = storage.subvolumeOf(image.layerIds.at(-1) ?? '');
      if ((await isSubvolume(path)) && (await subvolumeId(path)) === subvolume) {
        return imageSnapshotId(image);
      }
    }
    throw new SnapgateError('NOTHING_TO_DO', `${what} is no snapshot of an image`, {
      hint: 'Run snaphost update to get the first one.',
    });
  }

  async #create(base: Found): Promise<Deployment> {
    const { deployments } = this.#machine;
    if (base.kind === 'image') return deployments.create(this.#ofImage(base));
    const { deployment } = base;
    return deployments.create({
      ...{ image: deployment, name: deployment.image, top: deployment.path },
      prepare: (path, id) => this.#prepareCopy(deployment, path, id),
    });
  }

  #ofImage({ image, path: top }: FoundImage): DeployOptions {
    return {
      ...{ image, name: image.names[0] ?? channelName(this.#machine.config), top },
      prepare: (path, id) => prepareDeployment(this.#machine, path, id),
    };
  }

  /** A snapshot leaves out what is a subvolume of its own, as `/etc` is on an installed machine. */
  async #prepareCopy(base: Deployment, root: string, id: string): Promise<void> {
    const [from, to] = [join(base.path, 'etc'), join(root, 'etc')];
    if (await isSubvolume(from)) {
      await rmdir(to);
      await snapshot(from, to);
    }
    const devices = this.#machine.config.machine;
    // The configuration is the machine's own already: only the mounts name another snapshot.
    if (devices !== undefined) await prepareRoot({ root, deployment: id, devices });
  }
}

function unknown(where: string): SnapgateError {
  return new SnapgateError('NOTHING_TO_DO', 'there is no such snapshot', {
    where,
    hint: 'container-snap list-snapshots shows what there is.',
  });
}
