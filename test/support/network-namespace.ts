import { execFileSync } from 'node:child_process';

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
}

function tc(...args: readonly string[]): void {
  execFileSync('tc', args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
}

/**
 * A network with nothing but a line to this machine, both ends of which go through a queueing
 * discipline of the kernel, as tc(8) writes it. Dispose of it after use.
 */
export class NetworkNamespace implements Disposable {
  /** This machine's end of the line. */
  readonly address = '10.203.77.1';
  readonly #name = `sg${process.pid}`;

  constructor(queue: readonly string[]) {
    const [near, far] = [`${this.#name}a`, `${this.#name}b`];
    ip('netns', 'add', this.#name);
    try {
      ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', this.#name);
      ip('address', 'add', `${this.address}/30`, 'dev', near);
      ip('link', 'set', near, 'up');
      for (const args of [
        ['address', 'add', '10.203.77.2/30', 'dev', far],
        ['link', 'set', far, 'up'],
      ]) {
        ip('-n', this.#name, ...args);
      }
      tc('qdisc', 'add', 'dev', near, 'root', ...queue);
      tc('-n', this.#name, 'qdisc', 'add', 'dev', far, 'root', ...queue);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Runs a program in it. */
  get runner(): readonly string[] {
    return ['ip', 'netns', 'exec', this.#name];
  }

  /** Why there can be none with this discipline here, or undefined when there can. */
  static missing(queue: readonly string[]): string | undefined {
    if (process.getuid?.() !== 0) return 'needs root';
    try {
      using _namespace = new NetworkNamespace(queue);
      return undefined;
    } catch (thrown) {
      const said = String((thrown as { stderr?: Buffer }).stderr ?? thrown).trim();
      return `no ${queue[0]} in a network namespace here (${said.split('\n')[0]})`;
    }
  }

  [Symbol.dispose](): void {
    // The namespace takes its time to go, and the line with it: the next one may come sooner.
    try {
      ip('link', 'delete', `${this.#name}a`);
    } catch {
      // It was not made.
    }
    ip('netns', 'delete', this.#name);
  }
}
