import type { GatewayApi, JobAnswer } from '../../../host-client/net/gateway-api.ts';
import type { ChooseContext } from '../../../host-client/update/choose-way.ts';
import { NO_EVENTS } from '../../../host-client/update/events.ts';
import { readTarget, resolveTarget, type Target } from '../../../host-client/update/target.ts';
import type { Trust } from '../../../host-client/update/trust.ts';
import { trustBy } from '../../../host-client/update/trust.ts';
import type { Digest } from '../../../shared/digest.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import type { Plan, PlanWay } from '../../../shared/plan.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import type { FakeStorage } from '../../support/fake-storage.ts';
import type { MemoryStore } from '../../support/memory-store.ts';
import { makeBundle, makeKey, putBundle, type TestKey } from '../../support/signatures.ts';
import type { TinyImage } from '../../support/tiny-image.ts';

/** The class of the machine that chooses. */
export const MACHINE = { set: 1, memory: 128, lzma: '5.8.4', zstd: '1.5.7' };
export const NAME = 'gateway.test/os/image';
export const PLATFORM = { os: 'linux', architecture: 'amd64' } as const;
export const KEY: TestKey = makeKey();

/** Signs a manifest with the key that {@link trustIn} trusts. */
export async function signIn(store: MemoryStore, subject: StoredManifest): Promise<void> {
  await putBundle(store, subject, makeBundle(KEY, subject.digest));
}

/** Trust in one key for everything in a store. */
export function trustIn(store: MemoryStore): Trust {
  const policy = {
    version: 1,
    keys: { one: { pem: KEY.publicKey.pem } },
    rules: [{ repository: NAME, images: { signers: ['one'] } }],
  };
  return trustBy(parsePolicy(JSON.stringify(policy)), NAME, store);
}

/** The target that a tag of a store means, judged and read. */
export async function targetOf(store: MemoryStore, tag: string): Promise<Target> {
  const source = { reader: store, api: undefined, trust: trustIn(store) };
  const trusted = await resolveTarget(source, tag, PLATFORM);
  return readTarget(store, trusted, PLATFORM);
}

/** A gateway that knows the given ways, and what its jobs answer one after the other. */
export function fakeApi(
  target: TinyImage,
  ways: readonly Partial<PlanWay>[],
  answers: readonly Partial<JobAnswer['job']>[] = [],
): GatewayApi & { readonly calls: string[] } {
  const calls: string[] = [];
  const plan = {
    target: {
      ...{ manifest: target.stored.digest, config: target.config },
      ...{ platform: 'linux/amd64', fullBytes: 1 },
    },
    ways: ways as PlanWay[],
  } as Plan;
  const left = [...answers];
  const next = async (call: string): Promise<JobAnswer> => {
    calls.push(call);
    return { retryAfter: 3, job: { id: 'a', state: 'running', ...left.shift() } };
  };
  return {
    calls,
    plan: async () => {
      calls.push('plan');
      return plan;
    },
    requestDelta: () => next('request'),
    deltaJob: () => next('ask'),
    reportUpdates: async () => {},
    reportEncoders: async ({ artifact, format }) => {
      calls.push(`report ${artifact} ${format}`);
    },
  };
}

/** What choosing a way needs. */
export function chooseIn(
  store: MemoryStore,
  storage: FakeStorage,
  api: GatewayApi | undefined,
  more: Partial<ChooseContext> = {},
): ChooseContext {
  return {
    config: {
      limits: { layerBytes: 1e9, windowLog: 25 },
      waits: {
        answerSeconds: 1,
        metadataSeconds: 30,
        stallSeconds: 1,
        deltaSeconds: 10,
        storageSeconds: 1,
      },
      smallestDelta: 0,
    },
    ...{ source: store, api, trust: trustIn(store), storage, events: NO_EVENTS },
    platform: PLATFORM,
    formats: [
      { kind: 'snapgate', recompress: MACHINE },
      { kind: 'snapgate' },
      { kind: 'tar-diff' },
    ],
    pause: async () => undefined,
    ...more,
  };
}

/** The digests of what a way fetches. */
export function fetched(way: { fetch: readonly { digest: Digest }[] }): Digest[] {
  return way.fetch.map((blob) => blob.digest);
}
