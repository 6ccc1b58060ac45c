import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Machine } from './machine.ts';
import type { Json, Outcome, Stage } from './stage.ts';

const SNAPHOST = fileURLToPath(new URL('../../host-client/main.ts', import.meta.url));

/** What `snaphost COMMAND --json` answered: its object, or the error that it ended with. */
export type HostAnswer = {
  readonly value: Json;
  readonly error: { readonly code: string; readonly message: string } | undefined;
  readonly exit: number;
};

/** What a machine follows and whom it trusts. */
export type Follows = {
  /** Origin of the gateway. */
  readonly gateway: string;
  readonly repository: string;
  readonly tag: string;
  readonly policy: Json;
};

/** `snaphost` on the demo's machine. */
export class Host {
  readonly #stage: Stage;
  readonly #machine: Machine;

  private constructor(stage: Stage, machine: Machine) {
    this.#stage = stage;
    this.#machine = machine;
  }

  /** Writes the machine's configuration: what it follows and whom it trusts. */
  static async configure(
    stage: Stage,
    machine: Machine,
    { gateway, repository, tag, policy }: Follows,
  ): Promise<Host> {
    const folder = join(machine.root, 'etc/snaphost');
    await mkdir(folder, { recursive: true });
    const { graphRoot, runRoot } = machine;
    const config = { gateways: [gateway], repository, tag, graphRoot, runRoot };
    for (const [name, content] of Object.entries({ config, policy })) {
      await writeFile(join(folder, `${name}.json`), `${JSON.stringify(content, null, 2)}\n`);
    }
    return new Host(stage, machine);
  }

  /** Runs a command. A refusal is an answer, not a failure. */
  async ask(...args: string[]): Promise<HostAnswer> {
    const argv = this.#argv(...args, '--json');
    const { env } = this.#machine;
    const { value, code } = await this.#stage.json(argv, { mayFail: true, env });
    const error = value.error as HostAnswer['error'];
    return { value, error, exit: code };
  }

  /** Runs a command that must succeed. */
  async must(...args: string[]): Promise<Json> {
    const { value, error } = await this.ask(...args);
    if (error === undefined) return value;
    throw new Error(`snaphost ${args.join(' ')}: ${error.code}: ${error.message}`);
  }

  /** Runs a command for people to read. */
  show(...args: string[]): Promise<Outcome> {
    return this.#stage.run(this.#argv(...args), { env: this.#machine.env });
  }

  #argv(...args: string[]): string[] {
    return [process.execPath, SNAPHOST, ...args, '--root', this.#machine.root];
  }
}
