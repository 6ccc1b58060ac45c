import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { createTransport } from '../../host-client/net/transport.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { fleetSkipReason, TestMachine } from './fleet.ts';
import { type HostileRegistry, startHostileRegistry } from './hostile-registry.ts';
import { startRegistry, type TestRegistry } from './registry.ts';
import { putTinyImage, type TinyImage } from './tiny-image.ts';

/** A machine whose registry answers as a test tells it to. */
export class AttackedMachine {
  /** Why there can be none here, or undefined when it can. */
  readonly skip = fleetSkipReason();
  machine!: TestMachine;
  hostile!: HostileRegistry;
  /** The registry itself, as whoever pushes sees it. */
  store!: Repository;
  #registry!: TestRegistry;
  #close: () => void = () => undefined;

  async start(config: object): Promise<void> {
    this.#registry = await startRegistry();
    this.hostile = await startHostileRegistry(this.#registry.url);
    const { transport, close } = createTransport();
    this.#close = close;
    const baseUrl = new URL(this.#registry.url);
    this.store = new Repository({ transport, baseUrl, repository: 'os/image' });
    this.machine = await TestMachine.create(this.hostile.url, undefined, { config });
  }

  async stop(): Promise<void> {
    await this.machine.remove();
    await this.hostile.close();
    await this.#registry.stop();
    this.#close();
  }

  /** Puts an image under the machine's tag; nobody has signed it. */
  publish(text: string): Promise<TinyImage> {
    return putTinyImage(this.store, [{ 'etc/os': text }], { tag: 'stable' });
  }

  /** What an update says. */
  async update() {
    return (await this.machine.snaphost('update')).json;
  }
}

/** Has one ready, without a policy, for the tests of a file; they skip where there can be none. */
export function useAttackedMachine(config: object = {}): AttackedMachine {
  const attacked = new AttackedMachine();
  const { skip } = attacked;
  beforeAll(async () => {
    if (skip === undefined) await attacked.start(config);
  });
  afterAll(async () => {
    if (skip === undefined) await attacked.stop();
  });
  beforeEach((ctx) => ctx.skip(skip !== undefined, skip));
  return attacked;
}

/** What an update says that is refused. */
export const refused = (code: string, message: string | RegExp = '') => ({
  error: { code, message: expect.stringMatching(message) },
});
