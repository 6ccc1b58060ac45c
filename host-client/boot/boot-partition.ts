import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { hashFile, syncFolder } from '../system/files.ts';
import { freeSpaceAt } from '../system/free-space.ts';
import type { BootRequest } from './boot-loader.ts';
import {
  type BootEntry,
  type BootTries,
  entryFileName,
  formatEntry,
  parseEntry,
  parseEntryFileName,
} from './entry.ts';

const ENTRIES = 'loader/entries';
const FILES = 'snapgate';
/** Kernels are named so, and what was interrupted; all else there belongs to the boot loader. */
const FILE_NAME = /^[0-9a-f]{32}-(linux|initrd|linux\.efi)$|\.part$/;
const TEMPORARY = '.part';
/** Room kept free on the boot partition for entries and directories, in bytes. */
const SPARE = 256 * 1024;

/** An entry, and the name of the file that holds it. */
export type StoredEntry = {
  readonly file: string;
  readonly entry: BootEntry;
  readonly tries: BootTries;
};

/**
 * The boot partition: entries of the Boot Loader Specification in `loader/entries`, and kernels in
 * `snapgate`, named by their digest, so that deployments with the same kernel share it. The partition
 * is FAT: a rename replaces a file at once, and everything is synced in order.
 */
export class BootPartition {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Copies what `request` boots, and gives the entry for it. Throws NO_SPACE. */
  async place(request: BootRequest): Promise<BootEntry> {
    await this.removeLeftovers();
    const files = await filesOf(request);
    await this.#checkRoom(files);
    for (const { from, to } of files) await this.#copy(from, to);
    const path = (kind: string) => files.find((file) => file.kind === kind)?.to;
    const [linux, initrd, efi] = [path('linux'), path('initrd'), path('efi')];
    return {
      ...{ id: request.id, title: request.title, options: request.options },
      rank: await this.nextRank(),
      linux: linux === undefined ? undefined : `/${linux}`,
      efi: efi === undefined ? undefined : `/${efi}`,
      initrd: initrd === undefined ? [] : [`/${initrd}`],
    };
  }

  async #checkRoom(files: readonly BootFile[]): Promise<void> {
    let needed = SPARE;
    for (const { from, to } of files) {
      if (!(await exists(join(this.path, to)))) needed += (await stat(from)).size;
    }
    const { free } = await freeSpaceAt(this.path);
    if (needed <= free) return;
    throw new SnapgateError('NO_SPACE', `${needed} bytes are needed, ${free} are free`, {
      where: this.path,
      hint: 'Run snaphost gc, or make the boot partition larger.',
    });
  }

  /** The rank of an entry that goes before all others. */
  async nextRank(): Promise<number> {
    return 1 + Math.max(0, ...(await this.entries()).map(({ entry }) => entry.rank));
  }

  /** A crash between writing an entry anew and removing the old one leaves two: the newer counts. */
  async entries(): Promise<StoredEntry[]> {
    const found = new Map<string, StoredEntry>();
    for (const file of await readdir(join(this.path, ENTRIES)).catch(() => [])) {
      const name = parseEntryFileName(file);
      if (name === undefined) continue;
      const text = await readFile(join(this.path, ENTRIES, file), 'latin1');
      const stored = { file, entry: parseEntry(name.id, text), tries: name.tries };
      const other = found.get(name.id);
      if (other === undefined || other.entry.rank < stored.entry.rank) found.set(name.id, stored);
    }
    return [...found.values()];
  }

  /** Throws BOOT_INVALID when there is no entry of a deployment. */
  async find(id: string): Promise<StoredEntry> {
    const found = (await this.entries()).find(({ entry }) => entry.id === id);
    if (found !== undefined) return found;
    throw new SnapgateError('BOOT_INVALID', `no boot entry for deployment ${id}`, {
      where: join(this.path, ENTRIES),
      hint: 'Run snaphost status to see what can be booted.',
    });
  }

  /** Writes an entry; gives the name of its file. */
  async writeEntry(entry: BootEntry, tries: BootTries): Promise<string> {
    const name = entryFileName(entry.id, tries);
    await this.write(`${ENTRIES}/${name}`, formatEntry(entry));
    return name;
  }

  /** Gives an entry other tries, by a rename alone. */
  async renameEntry({ file, entry }: StoredEntry, tries: BootTries): Promise<void> {
    const folder = join(this.path, ENTRIES);
    await rename(join(folder, file), join(folder, entryFileName(entry.id, tries)));
    await syncFolder(folder);
  }

  async removeEntry(file: string): Promise<void> {
    await rm(join(this.path, ENTRIES, file), { force: true });
    await syncFolder(join(this.path, ENTRIES));
  }

  /** Replaces a file at once: after a crash it is the old one or the new one. */
  async write(name: string, content: string | Buffer): Promise<void> {
    const target = join(this.path, name);
    await mkdir(dirname(target), { recursive: true });
    const file = await open(`${target}${TEMPORARY}`, 'w', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${target}${TEMPORARY}`, target);
    await syncFolder(dirname(target));
  }

  /**
   * Removes half-written files, older twins of entries and kernels that no entry names; gives how many
   * bytes of kernels that freed.
   */
  async removeLeftovers(): Promise<number> {
    const stored = await this.entries();
    const files = new Set(stored.map(({ file }) => file));
    for (const name of await readdir(join(this.path, ENTRIES)).catch(() => [])) {
      const isOurs = parseEntryFileName(name.replace(/\.part$/, '')) !== undefined;
      if (isOurs && !files.has(name)) await this.removeEntry(name);
    }
    const used = new Set(
      stored.flatMap(({ entry }) => [entry.linux, entry.efi, ...entry.initrd]).filter(Boolean),
    );
    const folder = join(this.path, FILES);
    const unused = (await readdir(folder).catch(() => [])).filter(
      (name) => FILE_NAME.test(name) && !used.has(`/${FILES}/${name}`),
    );
    let freed = 0;
    for (const name of unused) {
      freed += (await stat(join(folder, name))).size;
      await rm(join(folder, name));
    }
    // Nobody would look for them again after a power cut that brings them back.
    if (unused.length > 0) await syncFolder(folder);
    return freed;
  }

  async #copy(from: string, to: string): Promise<void> {
    const target = join(this.path, to);
    if (await exists(target)) return;
    await mkdir(join(this.path, FILES), { recursive: true });
    await pipeline(
      createReadStream(from),
      createWriteStream(`${target}${TEMPORARY}`, { flush: true }),
    );
    await rename(`${target}${TEMPORARY}`, target);
    await syncFolder(join(this.path, FILES));
  }
}

type BootFile = { readonly kind: string; readonly from: string; readonly to: string };

async function filesOf({ kernel }: BootRequest): Promise<BootFile[]> {
  const parts =
    kernel.kind === 'uki'
      ? [{ kind: 'efi', from: kernel.efi, name: 'linux.efi' }]
      : [
          { kind: 'linux', from: kernel.linux, name: 'linux' },
          { kind: 'initrd', from: kernel.initrd, name: 'initrd' },
        ];
  const files: BootFile[] = [];
  for (const { kind, from, name } of parts) {
    const digest = (await hashFile(from)).hash.digest('hex');
    files.push({ kind, from, to: `${FILES}/${digest.slice(0, 32)}-${name}` });
  }
  return files;
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
