import { randomBytes, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import { SendStreamEncoder, streamHeader } from '../../shared/send-stream/encoder.ts';
import type { SendCommand } from '../../shared/send-stream/format.ts';
import { RunningProgram } from '../system/run.ts';
import { hasXattr, removeXattr } from '../system/xattrs.ts';
import { deleteSubvolumes, isSubvolume, parseUuid, subvolumeUuid } from './btrfs.ts';
import type { CloneSource } from './file-content.ts';
import { isLayerFile, type LayerFile } from './layer-files.ts';
import type { FindClone } from './translator.ts';

/** Bytes of commands that are collected before they are sent on. */
const FLUSH_BYTES = 256 * 1024;

/** A subvolume that was received into the staging folder, and the UUID that `btrfs receive` finds it by. */
export type StagedSubvolume = { readonly path: string; readonly uuid: Buffer };

/**
 * The folder where subvolumes are received before Podman sees them. It is on Podman's file system,
 * but not below `btrfs/`, which Podman mounts on itself and where `btrfs receive` then fails.
 */
export class Staging {
  readonly folder: string;
  readonly #subvolumeOf: (layerId: string) => string;
  readonly #signal: AbortSignal | undefined;
  /** Version of the send streams; version 2 can carry compressed content. */
  readonly streamVersion: 1 | 2;
  readonly #donors = new Map<string, Promise<Buffer>>();

  constructor(
    folder: string,
    subvolumeOf: (layerId: string) => string,
    signal: AbortSignal | undefined,
    streamVersion: 1 | 2 = 1,
  ) {
    this.folder = folder;
    this.#subvolumeOf = subvolumeOf;
    this.#signal = signal;
    this.streamVersion = streamVersion;
  }

  /**
   * Makes the folder if it is missing, and empties it. Throws STORAGE_INVALID for a link in its place:
   * what it leads to is not ours to empty, nor to be filled.
   */
  async clear(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const { mode, uid } = await lstat(this.folder);
    const isOurs = (mode & constants.S_IFMT) === constants.S_IFDIR && uid === process.getuid?.();
    if (!isOurs || (mode & 0o077) !== 0) {
      throw new SnapgateError('STORAGE_INVALID', 'the staging folder is no private folder', {
        where: this.folder,
        hint: 'Remove what is there; it is made again.',
      });
    }
    const paths = (await readdir(this.folder)).map((name) => join(this.folder, name));
    const subvolumes: string[] = [];
    for (const path of paths) if (await isSubvolume(path)) subvolumes.push(path);
    await deleteSubvolumes(subvolumes);
    for (const path of paths) await rm(path, { recursive: true, force: true });
    this.#donors.clear();
  }

  /** The UUID of a layer that Podman has. */
  uuidOf(layerId: string): Promise<Buffer> {
    return subvolumeUuid(this.#subvolumeOf(layerId));
  }

  /**
   * Finds where a file of a held layer can be cloned from. `btrfs receive` before version 6.10.1
   * looks for clone sources by the UUID that they were received with, which Podman's layers do not
   * have: so a snapshot of the layer is received first. It also keeps the extents when the layer is
   * removed meanwhile.
   */
  readonly findClone: FindClone = (file) => {
    if (!isLayerFile(file)) return undefined;
    const known = this.#ready.get(file.layerId);
    if (known !== undefined) return { uuid: known, path: file.realPath };
    return this.#donate(file);
  };

  readonly #ready = new Map<string, Buffer>();

  async #donate(file: LayerFile): Promise<CloneSource> {
    const { layerId } = file;
    const donor = this.#donors.get(layerId) ?? this.#receiveDonor(layerId);
    this.#donors.set(layerId, donor);
    const uuid = await donor;
    this.#ready.set(layerId, uuid);
    return { uuid, path: file.realPath };
  }

  async #receiveDonor(layerId: string): Promise<Buffer> {
    const receiver = this.receive(`donor-${layerId.slice(0, 12)}`);
    receiver.snapshotOf(await this.uuidOf(layerId));
    const { uuid } = await receiver.finish();
    return uuid;
  }

  /** Starts to receive a subvolume; the name gets a random end. */
  receive(prefix: string): Receiver {
    const name = `${prefix}-${randomBytes(4).toString('hex')}`;
    return new Receiver(this.folder, name, this.streamVersion, this.#signal);
  }
}

/**
 * One subvolume on its way through `btrfs receive`. Its first command is {@link Receiver.create} or
 * {@link Receiver.snapshotOf}; then come {@link Receiver.add} and, now and then,
 * {@link Receiver.flush}; at last {@link Receiver.keep}, {@link Receiver.finish} or
 * {@link Receiver.discard}.
 */
export class Receiver {
  readonly path: string;
  readonly uuid: Buffer = parseUuid(randomUUID());
  readonly #name: string;
  readonly #version: 1 | 2;
  readonly #encoder: SendStreamEncoder;
  readonly #program: RunningProgram;
  /**
   * An attribute of the subvolume's root, by which it shows that all commands before it were followed;
   * no layer can have it.
   */
  readonly #mark = `user.snapgate.${randomBytes(8).toString('hex')}`;
  #started = false;

  constructor(folder: string, name: string, version: 1 | 2, signal: AbortSignal | undefined) {
    this.path = join(folder, name);
    this.#name = name;
    this.#version = version;
    this.#encoder = new SendStreamEncoder(version);
    this.#program = new RunningProgram('btrfs', ['receive', '-q', '-C', folder], {
      signal,
      hint: receiveHint,
    });
  }

  /** Starts from nothing. */
  create(): void {
    this.add({ op: 'subvol', path: this.#name, uuid: this.uuid, ctransid: 0 });
  }

  /** Starts from another subvolume, found by its UUID. */
  snapshotOf(parent: Buffer): void {
    const from = { cloneUuid: parent, cloneCtransid: 0 };
    this.add({ op: 'snapshot', path: this.#name, uuid: this.uuid, ctransid: 0, ...from });
  }

  readonly add = (command: SendCommand): void => {
    this.#encoder.add(command);
  };

  /** Sends what has come together, once it is enough. Throws COMMAND_FAILED, NO_SPACE, CANCELLED. */
  flush(): Promise<void> | undefined {
    return this.#encoder.size < FLUSH_BYTES ? undefined : this.#send();
  }

  async #send(): Promise<void> {
    if (!this.#started) await this.#program.write(streamHeader(this.#version));
    this.#started = true;
    await this.#program.write(this.#encoder.take());
  }

  /**
   * Waits until the subvolume is whole, and keeps it as Podman has its own: writable, and with no memory
   * of how it was received. The end of a stream would make it the opposite, by two commits of the file
   * system before its data is out, which would all have to be taken back: so the stream is left
   * without one. What was written is on the disk when the subvolume is snapshotted, or the file system
   * synced. Throws like {@link Receiver.flush}.
   */
  async keep(): Promise<StagedSubvolume> {
    this.add({ op: 'setXattr', path: '', xattrName: this.#mark, xattrValue: Buffer.from('yes') });
    await this.#send();
    await this.#program.until(() => hasXattr(this.path, this.#mark));
    // It misses the end of the stream, and says so.
    await this.#program.end().catch(() => undefined);
    if (!removeXattr(this.path, this.#mark)) {
      throw new SnapgateError('COMMAND_FAILED', 'a received subvolume cannot be written to', {
        where: this.path,
      });
    }
    return { path: this.path, uuid: await subvolumeUuid(this.path) };
  }

  /** Ends the stream and waits until the subvolume is whole. Throws like {@link Receiver.flush}. */
  async finish(): Promise<StagedSubvolume> {
    this.add({ op: 'end' });
    await this.#send();
    await this.#program.end();
    return { path: this.path, uuid: this.uuid };
  }

  /** Stops and removes what was received. */
  async discard(): Promise<void> {
    await this.#program.kill();
    if (await isSubvolume(this.path)) await deleteSubvolumes([this.path]);
  }
}

function receiveHint(words: string): string {
  return words.includes('changed your default subvolume')
    ? 'Mount the subvolume that holds Podman’s storage, not a bind mount of a folder of it.'
    : 'The messages of the kernel (dmesg) may tell more; the machine keeps its old version.';
}
