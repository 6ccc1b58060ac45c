import { writeFile } from 'node:fs/promises';
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

/** `snaphost` on the demo's machine. */
export class Host {
  readonly #stage: Stage;
  readonly #config: string;

  private constructor(stage: Stage, config: string) {
    this.#stage = stage;
    this.#config = config;
  }

  /** Writes the machine's configuration: where it stores, whom it follows, whom it trusts. */
  static async configure(
    stage: Stage,
    machine: Machine,
    image: string,
    policy: Json,
  ): Promise<Host> {
    const policyFile = stage.path('policy.json');
    await writeFile(policyFile, JSON.stringify(policy, null, 2));
    const config = stage.path('snaphost.json');
    await writeFile(config, JSON.stringify(hostConfig(machine, image, policyFile), null, 2));
    return new Host(stage, config);
  }

  /** Runs a command. A refusal is an answer, not a failure. */
  async ask(...args: string[]): Promise<HostAnswer> {
    const argv = [process.execPath, SNAPHOST, ...args, '--config', this.#config, '--json'];
    const { value, code } = await this.#stage.json(argv, { mayFail: true });
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
    return this.#stage.run([process.execPath, SNAPHOST, ...args, '--config', this.#config]);
  }
}

function hostConfig(machine: Machine, image: string, policy: string): Json {
  const { graphRoot, runRoot, root } = machine;
  return { image, policy, root, storage: { graphRoot, runRoot } };
}
