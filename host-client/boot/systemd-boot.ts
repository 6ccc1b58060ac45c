import type { BootLoader, BootRequest, BootState } from './boot-loader.ts';
import { BootPartition, type StoredEntry } from './boot-partition.ts';
import { entryFileName } from './entry.ts';

/**
 * systemd-boot (and any boot loader that follows the Boot Loader Specification) on a boot partition
 * mounted at `boot`. The names of the entries' files count their tries (systemd's Automatic Boot
 * Assessment).
 */
export class SystemdBoot implements BootLoader {
  readonly name = 'systemd-boot';
  readonly #partition: BootPartition;

  constructor(boot: string) {
    this.#partition = new BootPartition(boot);
  }

  async add(request: BootRequest, tries: number): Promise<void> {
    const entry = await this.#partition.place(request);
    await this.#partition.writeEntry(entry, { left: tries, done: 0 });
  }

  async choose(id: string): Promise<void> {
    const { file, entry } = await this.#partition.find(id);
    const rank = await this.#partition.nextRank();
    const name = await this.#partition.writeEntry({ ...entry, rank }, undefined);
    if (file !== name) await this.#partition.removeEntry(file);
  }

  async bless(id: string): Promise<void> {
    const stored = await this.#partition.find(id);
    if (stored.file === entryFileName(id, undefined)) return;
    await this.#partition.renameEntry(stored, undefined);
  }

  async remove(ids: readonly string[]): Promise<number> {
    for (const { file, entry } of await this.#partition.entries()) {
      if (ids.includes(entry.id)) await this.#partition.removeEntry(file);
    }
    return this.#partition.removeLeftovers();
  }

  async list(): Promise<BootState[]> {
    const isBad = ({ tries }: StoredEntry) => (tries?.left === 0 ? 1 : 0);
    return (await this.#partition.entries())
      .sort((a, b) => isBad(a) - isBad(b) || b.entry.rank - a.entry.rank)
      .map(({ entry, tries }) => ({ id: entry.id, rank: entry.rank, tries }));
  }
}
