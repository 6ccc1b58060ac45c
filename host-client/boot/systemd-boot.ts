import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { syncFolder } from '../system/files.ts';
import { freeSpaceAt } from '../system/free-space.ts';
import type { BootLoader, BootRequest, BootState } from './boot-loader.ts';
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
const TEMPORARY = '.part';
/** Room kept free on the boot partition for entries and directories, in bytes. */
const SPARE = 256 * 1024;

type Stored = { readonly file: string; readonly entry: BootEntry; readonly tries: BootTries };

/**
 * systemd-boot (and any boot loader that follows the Boot Loader Specification) on a boot partition
 * mounted at `boot`. Kernels are stored under their digest, so deployments with the same kernel share
 * it. The partition is FAT: a rename replaces a file at once, and everything is synced in order.
 */
export class SystemdBoot implements BootLoader {
  readonly name = 'systemd-boot';
  readonly #boot: string;

  constructor(boot: string) {
    this.#boot = boot;
  }

  async room(request: BootRequest): Promise<{ needed: number; free: number }> {
    let needed = SPARE;
    for (const { from, to } of await this.#files(request)) {
      if (!(await exists(join(this.#boot, to)))) needed += (await stat(from)).size;
    }
    const { free } = await freeSpaceAt(this.#boot);
    return { needed, free };
  }

  async add(request: BootRequest, tries: number): Promise<void> {
    await this.#removeLeftovers();
    const { needed, free } = await this.room(request);
    if (needed > free) {
      throw new SnapgateError('NO_SPACE', `${needed} bytes are needed, ${free} are free`, {
        where: this.#boot,
        hint: 'Run snaphost gc, or make the boot partition larger.',
      });
    }
    const files = await this.#files(request);
    for (const { from, to } of files) await this.#place(from, to);
    const path = (kind: string) => files.find((file) => file.kind === kind)?.to;
    const [linux, initrd, efi] = [path('linux'), path('initrd'), path('efi')];
    await this.#write(entryFileName(request.id, { left: tries, done: 0 }), {
      ...{ id: request.id, title: request.title, options: request.options },
      rank: await this.#nextRank(),
      linux: linux === undefined ? undefined : `/${linux}`,
      efi: efi === undefined ? undefined : `/${efi}`,
      initrd: initrd === undefined ? [] : [`/${initrd}`],
    });
  }

  async choose(id: string): Promise<void> {
    const { file, entry } = await this.#find(id);
    const name = entryFileName(id, undefined);
    await this.#write(name, { ...entry, rank: await this.#nextRank() });
    if (file !== name) await this.#removeEntry(file);
  }

  async bless(id: string): Promise<void> {
    const { file, tries } = await this.#find(id);
    if (tries === undefined) return;
    const folder = join(this.#boot, ENTRIES);
    await rename(join(folder, file), join(folder, entryFileName(id, undefined)));
    await syncFolder(folder);
  }

  async remove(ids: readonly string[]): Promise<number> {
    for (const { file, entry } of await this.#stored()) {
      if (ids.includes(entry.id)) await this.#removeEntry(file);
    }
    return this.#removeLeftovers();
  }

  async list(): Promise<BootState[]> {
    const isBad = ({ tries }: Stored) => (tries?.left === 0 ? 1 : 0);
    return (await this.#stored())
      .sort((a, b) => isBad(a) - isBad(b) || b.entry.rank - a.entry.rank)
      .map(({ entry, tries }) => ({ id: entry.id, rank: entry.rank, tries }));
  }

  async #nextRank(): Promise<number> {
    return 1 + Math.max(0, ...(await this.#stored()).map(({ entry }) => entry.rank));
  }

  async #find(id: string): Promise<Stored> {
    const found = (await this.#stored()).find(({ entry }) => entry.id === id);
    if (found !== undefined) return found;
    throw new SnapgateError('BOOT_INVALID', `no boot entry for deployment ${id}`, {
      where: join(this.#boot, ENTRIES),
      hint: 'Run snaphost status to see what can be booted.',
    });
  }

  /** A crash between the two halves of `choose` leaves two entries of a deployment: the newer counts. */
  async #stored(): Promise<Stored[]> {
    const found = new Map<string, Stored>();
    for (const file of await readdir(join(this.#boot, ENTRIES)).catch(() => [])) {
      const name = parseEntryFileName(file);
      if (name === undefined) continue;
      const text = await readFile(join(this.#boot, ENTRIES, file), 'latin1');
      const stored = { file, entry: parseEntry(name.id, text), tries: name.tries };
      const other = found.get(name.id);
      if (other === undefined || other.entry.rank < stored.entry.rank) found.set(name.id, stored);
    }
    return [...found.values()];
  }

  async #files({ kernel }: BootRequest): Promise<{ kind: string; from: string; to: string }[]> {
    const parts =
      kernel.kind === 'uki'
        ? [{ kind: 'efi', from: kernel.efi, name: 'linux.efi' }]
        : [
            { kind: 'linux', from: kernel.linux, name: 'linux' },
            { kind: 'initrd', from: kernel.initrd, name: 'initrd' },
          ];
    const files: { kind: string; from: string; to: string }[] = [];
    for (const { kind, from, name } of parts) {
      files.push({ kind, from, to: `${FILES}/${(await digest(from)).slice(0, 32)}-${name}` });
    }
    return files;
  }

  async #place(from: string, to: string): Promise<void> {
    const target = join(this.#boot, to);
    if (await exists(target)) return;
    await mkdir(join(this.#boot, FILES), { recursive: true });
    await pipeline(
      createReadStream(from),
      createWriteStream(`${target}${TEMPORARY}`, { flush: true }),
    );
    await rename(`${target}${TEMPORARY}`, target);
    await syncFolder(join(this.#boot, FILES));
  }

  async #write(name: string, entry: BootEntry): Promise<void> {
    const folder = join(this.#boot, ENTRIES);
    await mkdir(folder, { recursive: true });
    const temporary = join(folder, `${name}${TEMPORARY}`);
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(formatEntry(entry));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, join(folder, name));
    await syncFolder(folder);
  }

  async #removeEntry(file: string): Promise<void> {
    await rm(join(this.#boot, ENTRIES, file), { force: true });
    await syncFolder(join(this.#boot, ENTRIES));
  }

  /** Removes half-written files, older twins of entries and files that no entry names. */
  async #removeLeftovers(): Promise<number> {
    const stored = await this.#stored();
    const files = new Set(stored.map(({ file }) => file));
    for (const name of await readdir(join(this.#boot, ENTRIES)).catch(() => [])) {
      const isOurs = parseEntryFileName(name.replace(/\.part$/, '')) !== undefined;
      if (isOurs && !files.has(name)) await this.#removeEntry(name);
    }
    const used = new Set(
      stored.flatMap(({ entry }) => [entry.linux, entry.efi, ...entry.initrd]).filter(Boolean),
    );
    let freed = 0;
    for (const name of await readdir(join(this.#boot, FILES)).catch(() => [])) {
      if (used.has(`/${FILES}/${name}`)) continue;
      const path = join(this.#boot, FILES, name);
      freed += (await stat(path)).size;
      await rm(path);
    }
    return freed;
  }
}

async function digest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
