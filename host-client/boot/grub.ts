import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import type { BootLoader, BootRequest, BootState } from './boot-loader.ts';
import { BootPartition } from './boot-partition.ts';
import type { BootTries } from './entry.ts';
import { formatGrubMenu } from './grub-menu.ts';
import { formatGrubenv, parseGrubenv } from './grubenv.ts';

const MENU = 'snapgate/menu.cfg';
const ENVIRONMENT = 'snapgate/grubenv';

/** Variables of GRUB's environment block that are ours; others are kept. */
type Choice = {
  /** The deployment that boots when nothing is being tried. */
  saved_entry?: string;
  /** The deployment that is being tried. */
  next_entry?: string;
  /** How often that may still be. */
  boot_counter?: string;
  /** `1` once what was tried works. */
  boot_success?: string;
};
const OURS = ['saved_entry', 'next_entry', 'boot_counter', 'boot_success'] as const;

/**
 * GRUB on a boot partition mounted at `boot`. GRUB cannot count in names of files, so its environment
 * block says what is tried and how often; `grub.cfg`, which `snaphost install` writes and no update
 * changes, counts down before it boots, and boots `saved_entry` when nothing is left to count. Entries
 * are kept as for any other boot loader, and one menu is made of them. The environment block is
 * written last.
 */
export class Grub implements BootLoader {
  readonly name = 'grub';
  readonly #partition: BootPartition;

  constructor(boot: string) {
    this.#partition = new BootPartition(boot);
  }

  async add(request: BootRequest, tries: number): Promise<void> {
    const entry = await this.#partition.place(request);
    await this.#partition.writeEntry(entry, undefined);
    await this.#writeMenu();
    const { saved_entry = request.id } = await this.#choice();
    await this.#choose({
      ...{ saved_entry, next_entry: request.id },
      ...{ boot_counter: String(tries), boot_success: '0' },
    });
  }

  async choose(id: string): Promise<void> {
    const { entry } = await this.#partition.find(id);
    const rank = await this.#partition.nextRank();
    await this.#partition.writeEntry({ ...entry, rank }, undefined);
    await this.#writeMenu();
    await this.#choose({ saved_entry: id, boot_success: '1' });
  }

  async bless(id: string): Promise<void> {
    await this.#partition.find(id);
    if ((await this.#choice()).next_entry !== id) return;
    await this.#choose({ saved_entry: id, boot_success: '1' });
  }

  async remove(ids: readonly string[]): Promise<number> {
    const { next_entry, ...choice } = await this.#choice();
    if (next_entry !== undefined && ids.includes(next_entry)) {
      delete choice.boot_counter;
      await this.#choose(choice);
    }
    const gone = (await this.#partition.entries()).filter(({ entry }) => ids.includes(entry.id));
    // What the menu offers must be there: it changes first.
    await this.#writeMenu(ids);
    for (const { file } of gone) await this.#partition.removeEntry(file);
    return this.#partition.removeLeftovers();
  }

  async list(): Promise<BootState[]> {
    const choice = await this.#choice();
    const order = (id: string) => {
      if (id === choice.next_entry) return triesOf(choice)?.left === 0 ? 3 : 0;
      return id === choice.saved_entry ? 1 : 2;
    };
    return (await this.#partition.entries())
      .map(({ entry: { id, rank } }) => ({
        ...{ id, rank },
        tries: id === choice.next_entry ? triesOf(choice) : undefined,
      }))
      .sort((a, b) => order(a.id) - order(b.id) || b.rank - a.rank);
  }

  async #writeMenu(without: readonly string[] = []): Promise<void> {
    const entries = (await this.#partition.entries()).map(({ entry }) => entry);
    const offered = entries.filter(({ id }) => !without.includes(id));
    offered.sort((a, b) => b.rank - a.rank);
    await this.#partition.write(MENU, formatGrubMenu(offered));
  }

  async #environment(): Promise<Map<string, string>> {
    const path = join(this.#partition.path, ENVIRONMENT);
    try {
      return parseGrubenv(await readFile(path));
    } catch (thrown) {
      // One that is missing or damaged is nothing that GRUB could use: a new one is made.
      const isMissing = (thrown as NodeJS.ErrnoException).code === 'ENOENT';
      if (isMissing || thrown instanceof SnapgateError) return new Map();
      throw thrown;
    }
  }

  async #choice(): Promise<Choice> {
    const values = await this.#environment();
    return Object.fromEntries(
      OURS.flatMap((name) => (values.get(name) ? [[name, values.get(name)]] : [])),
    );
  }

  async #choose(choice: Choice): Promise<void> {
    const values = await this.#environment();
    for (const name of OURS) {
      if (choice[name] === undefined) values.delete(name);
      else values.set(name, choice[name]);
    }
    await this.#partition.write(ENVIRONMENT, formatGrubenv(values));
  }
}

function triesOf({ boot_counter }: Choice): BootTries {
  const left = /^\d{1,2}$/.test(boot_counter ?? '') ? Number(boot_counter) : 0;
  return { left, done: 0 };
}
