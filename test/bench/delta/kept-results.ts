import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import type { Cost } from './cost.ts';

/** What a tool needed for the layers of a pair. */
export type Measured = {
  readonly tool: string;
  readonly bytes: number;
  readonly make: Cost;
  readonly apply?: Cost;
};

/** The same, by which version of the tool and on which day (YYYY-MM-DD). */
export type KeptResult = Measured & { readonly version: string; readonly measured: string };

type File = { readonly of: readonly string[]; readonly results: readonly KeptResult[] };

export function today(): string {
  return new Date().toISOString().slice(0, 10);
}

/**
 * Results of tools for a pair in a file: measuring them takes longer than all else. They hold for the
 * same layers, processor and version of the tool.
 */
export class KeptResults {
  readonly #file: string;
  readonly #of: readonly string[];
  readonly #results: Map<string, KeptResult>;

  private constructor(file: string, of: readonly string[], results: readonly KeptResult[]) {
    this.#file = file;
    this.#of = of;
    this.#results = new Map(results.map((result) => [result.tool, result]));
  }

  /** `layers` are digests of what is measured. */
  static async open(file: string, layers: readonly string[]): Promise<KeptResults> {
    const of = [...layers, cpus()[0]?.model ?? ''];
    const kept = existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as File) : undefined;
    const isSame = kept?.of.join() === of.join();
    return new KeptResults(file, of, isSame ? kept.results : []);
  }

  find(tool: string, version: string): KeptResult | undefined {
    const found = this.#results.get(tool);
    return found?.version === version ? found : undefined;
  }

  async keep(result: KeptResult): Promise<void> {
    this.#results.set(result.tool, result);
    await mkdir(dirname(this.#file), { recursive: true });
    const file: File = { of: this.#of, results: [...this.#results.values()] };
    await writeFile(`${this.#file}.part`, JSON.stringify(file));
    await rename(`${this.#file}.part`, this.#file);
  }
}
