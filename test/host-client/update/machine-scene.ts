import { join } from 'node:path';
import { Channels } from '../../../host-client/channel/channels.ts';
import { loadConfig } from '../../../host-client/config.ts';
import type { Deployment } from '../../../host-client/deploy/deployment.ts';
import type { Deployments, DeployOptions } from '../../../host-client/deploy/deployments.ts';
import { Downloads } from '../../../host-client/update/downloads.ts';
import type { UpdateEvents } from '../../../host-client/update/events.ts';
import type { Machine } from '../../../host-client/update/machine.ts';
import { StateFolder } from '../../../host-client/update/state.ts';
import { FakeStorage } from '../../support/fake-storage.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';
import { type fakeApi, NAME, PLATFORM, signIn, trustIn } from './fixture.ts';

/** Deployments in memory. */
class FakeDeployments {
  readonly all: Deployment[] = [];
  next: Deployment | undefined;
  failed: string | undefined;
  readonly calls: string[] = [];

  async recover() {}
  async list() {
    return this.all;
  }
  async roles() {
    return { running: undefined, next: this.next, rollback: undefined };
  }
  async failureOf() {
    return this.failed;
  }
  async create({ image, name }: DeployOptions): Promise<Deployment> {
    this.calls.push('create');
    const deployment: Deployment = {
      ...{ version: 1, id: `d${this.all.length}`, image: name, config: image.config },
      ...{ manifest: image.manifest as Deployment['manifest'], created: 'now', state: 'staged' },
      ...{ pinned: false, path: '/d', subvolume: 256 },
    };
    this.all.push(deployment);
    return deployment;
  }
  async install(options: DeployOptions): Promise<Deployment> {
    const deployment = await this.create(options);
    this.calls.push('switch');
    this.next = deployment;
    return deployment;
  }
}

type Context = Parameters<typeof temporaryFolder>[0];

/** A machine that updates from a store in memory. */
export async function machineScene(ctx: Context) {
  const folder = await temporaryFolder(ctx);
  const store = new MemoryStore();
  const storage = new FakeStorage(folder);
  const deployments = new FakeDeployments();
  const steps: string[] = [];
  const notices: string[] = [];
  const events: UpdateEvents = {
    step: (step) => steps.push(step),
    progress() {},
    notice: (message) => notices.push(message),
  };
  const state = new StateFolder(join(folder, 'state'));
  const config = await loadConfig({
    ...{ root: folder, gateways: ['http://gateway.test'], repository: 'os/image' },
    ...{ tag: 'stable', name: NAME, graphRoot: folder, runRoot: '/run' },
  });
  const line: { api: ReturnType<typeof fakeApi> | undefined } = { api: undefined };
  const told: object[] = [];
  const machine: Machine = {
    reports: { tell: async (attempt) => void told.push(attempt) },
    ...{ config, platform: PLATFORM, state, storage, events, received: () => 0 },
    channels: new Channels(state.path),
    downloads: new Downloads(state.downloads),
    deployments: deployments as unknown as Deployments,
    reach: async () => ({ reader: store, trust: trustIn(store) }),
    connect: async () => ({
      ...{ reader: store, api: line.api, trust: trustIn(store) },
      tagDigest: store.tags.get('stable'),
    }),
  };
  const publish = async (files: Parameters<typeof putTinyImage>[1]): Promise<TinyImage> => {
    const image = await putTinyImage(store, files, { tag: 'stable' });
    await signIn(store, image.stored);
    return image;
  };
  return {
    notices,
    folder,
    store,
    storage,
    deployments,
    steps,
    state,
    machine,
    publish,
    line,
    told,
  };
}
