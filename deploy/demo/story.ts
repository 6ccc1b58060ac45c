import { fileURLToPath } from 'node:url';
import { formatSeconds } from '../../shared/cli/format.ts';
import { startRegistry } from '../../test/support/registry.ts';
import { readDelta, requestDelta } from './ask-gateway.ts';
import { type KeyPair, makeKey, sign, startGateway } from './gateway.ts';
import { Host } from './host.ts';
import { changedPackages, type DemoImage, readDemoImage } from './images.ts';
import { type Line, layLine } from './line.ts';
import { Machine } from './machine.ts';
import { type Cost, costOf, podmanAlone } from './podman-alone.ts';
import { bytesOf, type Teller } from './print.ts';
import { showRefusals } from './refusals.ts';
import type { Json, Stage } from './stage.ts';

export type DemoOptions = {
  readonly small: boolean;
  readonly mirror?: string | undefined;
  readonly 'security-mirror'?: string | undefined;
};

/** Everything that plays a part. */
export type Cast = {
  readonly stage: Stage;
  readonly teller: Teller;
  readonly v1: DemoImage;
  readonly v2: DemoImage;
  /** The folder that the registry keeps its content in. */
  readonly registryData: string;
  /** `127.0.0.1:PORT` of the gateway, as the publisher sees it. */
  readonly gateway: string;
  /** The way from the machine to the gateway. */
  readonly line: Line;
  readonly publisher: Awaited<ReturnType<typeof makeKey>>;
  readonly machine: Machine;
  readonly host: Host;
};

export const REPOSITORY = 'edge/os';
export const TAG = 'stable';
const DISK_BYTES = 12e9;

/** Tells the whole story. Answers with what was measured. */
export async function tell(stage: Stage, teller: Teller, options: DemoOptions): Promise<Json> {
  const { v1, v2 } = await buildImages(stage, teller, options);
  const cast = await openStage(stage, teller, v1, v2);
  const install = await installFirst(cast);
  const delta = await makeDelta(cast);
  const update = await updateByDelta(cast);
  await lookAround(cast);
  await rollBack(cast);
  const refused = await showRefusals(cast);
  const podman = await comparePodman(cast);
  showCosts(cast, update.cost, podman.update);
  return {
    size: options.small ? 'small' : 'full',
    images: { v1: v1.digest, v2: v2.digest, fullBytes: v2.bytes },
    ...{ install, delta, update: update.cost, report: update.report },
    ...{ podmanInstall: podman.first, podman: podman.update },
    refused,
  };
}

async function buildImages(stage: Stage, teller: Teller, options: DemoOptions) {
  teller.step('Two versions of an operating system');
  const name = options.small ? 'small' : 'images';
  const folder = fileURLToPath(new URL(`../../.cache/demo/${name}`, import.meta.url));
  const script = fileURLToPath(new URL('images', import.meta.url));
  const { mirror, 'security-mirror': security } = options;
  const flags = [
    ...(options.small ? ['--small'] : []),
    ...(mirror === undefined ? [] : ['--mirror', mirror]),
    ...(security === undefined ? [] : ['--security-mirror', security]),
  ];
  await stage.run([script, ...flags, folder], { loud: true });
  const v1 = await readDemoImage(folder, 'v1');
  const v2 = await readDemoImage(folder, 'v2');
  const changed = changedPackages(v1, v2);
  const count = `${v1.packages.size} packages, ${v1.layers} layers`;
  teller.say(`v1  Debian's main suite alone          ${count}, ${bytesOf(v1.bytes)} packed`);
  teller.say(
    `v2  the same with security and updates ${changed.length} packages differ, ${bytesOf(v2.bytes)}`,
  );
  for (const name of ['linux-image-cloud-amd64', 'python3.11', 'openssl', 'perl-base']) {
    const [from, to] = [v1.packages.get(name), v2.packages.get(name)];
    if (from !== undefined && from !== to) teller.say(`      ${name} ${from} → ${to}`);
  }
  return { v1, v2 };
}

async function openStage(
  stage: Stage,
  teller: Teller,
  v1: DemoImage,
  v2: DemoImage,
): Promise<Cast> {
  teller.step('A registry, the gateway in front of it, a line, a machine');
  const registryData = stage.path('registry');
  const registry = await startRegistry({ storage: registryData });
  stage.later('stop docker-registry', () => registry.stop());
  const publisher = await makeKey(stage, 'publisher');
  const vouching = await makeKey(stage, 'gateway');
  const gateway = await startGateway(stage, {
    listen: { port: 0 },
    upstream: { url: registry.url },
    data: stage.path('gateway-data'),
    signing: [
      { repository: 'edge/*', key: vouching.key, passwordFile: vouching.password, images: false },
    ],
  });
  const line = await layLine(stage, gateway);
  const machine = await Machine.build(stage, 'machine', DISK_BYTES);
  const policy = {
    version: 1,
    keys: { publisher: { pem: publisher.pem }, gateway: { pem: vouching.pem } },
    rules: [
      {
        repository: `${line.host}/${REPOSITORY}`,
        images: { signers: ['publisher'] },
        deltas: { signers: ['gateway'] },
      },
    ],
  };
  const follows = { gateway: `http://${line.host}`, repository: REPOSITORY, tag: TAG, policy };
  const host = await Host.configure(stage, machine, follows);
  teller.say(`registry  ${registry.host}  docker-registry as Debian ships it`);
  teller.say(`gateway   ${gateway}  snapgate serve`);
  teller.say(`line      ${line.host}  passes everything on, and counts the bytes`);
  teller.say(`machine   ${machine.root}  btrfs, Podman's storage, snaphost`);
  return { stage, teller, v1, v2, registryData, gateway, line, publisher, machine, host };
}

/** Pushes an image through the gateway under the channel's tag, and signs it with a key, if any. */
export async function publish(
  { stage, gateway }: Cast,
  source: string,
  key: KeyPair | undefined,
): Promise<void> {
  const target = `docker://${gateway}/${REPOSITORY}:${TAG}`;
  await stage.run(['skopeo', 'copy', '--quiet', '--dest-tls-verify=false', source, target]);
  if (key !== undefined) await sign(stage, key, target);
}

async function installFirst(cast: Cast): Promise<Cost> {
  const { teller, publisher, v1, machine, line, host } = cast;
  teller.step('v1 is published, and the bare machine takes it whole');
  teller.command(`skopeo copy oci:v1 docker://${cast.gateway}/${REPOSITORY}:${TAG}`);
  teller.command(`snapgate sign --key publisher.key docker://${cast.gateway}/${REPOSITORY}:${TAG}`);
  await publish(cast, `oci:${v1.layout}:v1`, publisher);
  teller.command('snaphost update');
  const cost = await costOf(machine, line, () => host.must('update'));
  teller.good(`v1 is what boots next: ${await machine.bootsNext()}`);
  teller.say(costLine(cost));
  return cost;
}

/** What making a delta took at the gateway, and the size of its layers. */
type Making = { readonly seconds: number; readonly layerBytes: number };

async function makeDelta(cast: Cast): Promise<Making> {
  const { stage, teller, gateway, publisher, v1, v2 } = cast;
  teller.step('v2 is published, and the gateway makes a delta from v1');
  await publish(cast, `oci:${v2.layout}:v2`, publisher);
  teller.say('The first machine that asks has it made; all others get the same one. Asking now.');
  const started = performance.now();
  const artifact = await requestDelta(stage, gateway, REPOSITORY, v1.config, v2.digest);
  const seconds = (performance.now() - started) / 1000;
  const { layers } = await readDelta(gateway, REPOSITORY, artifact);
  const layerBytes = layers
    .filter((layer) => layer.annotations?.['io.github.containers.delta.content'] === 'image-layer')
    .reduce((sum, layer) => sum + layer.size, 0);
  teller.good(
    `${bytesOf(layerBytes, v2.bytes)} of the image, made and signed in ${formatSeconds(seconds)}`,
  );
  return { seconds, layerBytes };
}

async function updateByDelta(cast: Cast): Promise<{ cost: Cost; report: Json }> {
  const { teller, v2, machine, line, host } = cast;
  teller.step('The machine takes what changed');
  teller.command('snaphost check');
  teller.quote((await host.show('check')).out);
  teller.command('snaphost update');
  let report: Json = {};
  const cost = await costOf(machine, line, async () => {
    report = await host.must('update');
  });
  if (report.method !== 'delta') {
    throw new Error(`the update was not by delta: ${JSON.stringify(report)}`);
  }
  teller.good(`v2 is what boots next: ${await machine.bootsNext()}`);
  teller.say(costLine(cost, v2.bytes));
  return { cost, report };
}

async function lookAround({ teller, machine, line, host }: Cast): Promise<void> {
  teller.step('Podman sees an ordinary image');
  const image = `${line.host}/${REPOSITORY}:${TAG}`;
  teller.command('podman images');
  const format = '{{.ID}}  {{.Repository}}:{{.Tag}}  {{.Size}}';
  const { out } = await machine.podman(['images', '--format', format]);
  teller.quote(out);
  teller.command(`podman run ${image} cat /etc/image-release`);
  const release = await machine.runIn(image, ['cat', '/etc/image-release']);
  if (!release.out.includes('IMAGE_VERSION=v2')) throw new Error('the new image is not v2');
  teller.quote(release.out);
  teller.command('snaphost status');
  teller.quote((await host.show('status')).out);
}

async function rollBack({ teller, machine, host }: Cast): Promise<void> {
  teller.step('And back');
  const before = await machine.bootsNext();
  teller.command('snaphost rollback');
  await host.must('rollback');
  const after = await machine.bootsNext();
  if (after === before) throw new Error('the rollback changed nothing');
  teller.good(`v1 is what boots next again: ${after}`);
}

async function comparePodman(cast: Cast): ReturnType<typeof podmanAlone> {
  const { stage, teller, gateway, line, v1, v2 } = cast;
  teller.step('The same update with Podman alone, on a machine of its own');
  for (const { name, layout } of [v1, v2]) {
    const target = `docker://${gateway}/${REPOSITORY}:${name}`;
    await stage.run([
      ...['skopeo', 'copy', '--quiet', '--dest-tls-verify=false', `oci:${layout}:${name}`, target],
    ]);
  }
  const image = (name: string) => `${line.host}/${REPOSITORY}:${name}`;
  const costs = await podmanAlone(stage, line, image('v1'), image('v2'), DISK_BYTES);
  teller.command('podman pull');
  teller.say(costLine(costs.update));
  return costs;
}

function costLine({ line, written, seconds }: Cost, whole?: number): string {
  return `${bytesOf(line, whole)} on the line, ${bytesOf(written)} written to disk, ${formatSeconds(seconds)}`;
}

function showCosts({ teller, v2 }: Cast, update: Cost, podman: Cost): void {
  teller.step('What v1 → v2 took');
  const atOneMegabit = (bytes: number) => formatSeconds((8 * bytes) / 1e6);
  const row = (name: string, cost: Cost) => [
    ...[name, bytesOf(cost.line), bytesOf(cost.written), formatSeconds(cost.seconds)],
    atOneMegabit(cost.line),
  ];
  teller.table(
    ['', 'on the line', 'written to disk', 'seconds here', 'on a line of 1 Mbit/s'],
    [
      row('Snapgate, by delta', update),
      row('podman pull', podman),
      ['the whole image', bytesOf(v2.bytes), '-', '-', atOneMegabit(v2.bytes)],
    ],
  );
  const share = (a: number, b: number) => `1/${(b / a).toFixed(1)}`;
  teller.say('');
  teller.good(
    `${share(update.line, podman.line)} of the bytes on the line, ${share(update.written, podman.written)} of the bytes written.`,
  );
  teller.say('The first three columns were measured just now; the last is the first at that rate.');
}
