import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Fleet, fleetSkipReason, SNAPHOST, startFleet } from '../support/fleet.ts';
import { peerMissing, peerPath } from '../support/peers.ts';
import { DiskMachine, type Disks } from '../support/steps/disk-machine.ts';
import {
  bootsNext,
  deploymentIds,
  machineState,
  treeDigest,
} from '../support/steps/machine-state.ts';
import { runStepped, type Step } from '../support/steps/run-stepped.ts';
import { putTinyImage, type TinyFiles } from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const library = randomBytes(1_000_000);
const folder = { type: 'directory' as const };
const base = {
  ...{ 'usr/lib/base.so': randomBytes(300_000) },
  ...{ 'var/': folder, 'deployments/': folder, 'efi/': folder, 'run/': folder },
};

/** A version of the system: kernel, library and configuration change with it. */
function version(n: number): TinyFiles[] {
  const changed = Buffer.from(library);
  changed.write(`this is version ${n}`, 500_000);
  const kernel = `usr/lib/modules/6.${n}`;
  return [
    base,
    {
      'usr/lib/lib.so': changed,
      [`${kernel}/vmlinuz`]: `kernel ${n}`.repeat(5000),
      [`${kernel}/initrd`]: `initrd ${n}`.repeat(9000),
    },
    {
      'etc/version': `${n}\n`,
      'etc/both': `image ${n}\n`,
      'etc/own': 'image\n',
      'etc/dropped': 'image\n',
      'etc/passwd': `root:x:0:0::/:/bin/sh\nuser${n}:x:10${n}:1::/:/bin/sh\n`,
    },
  ];
}

/** What the machine makes of its configuration: each kind of merge has a case. */
function configure(etc: string): void {
  writeFileSync(join(etc, 'both'), 'machine\n');
  writeFileSync(join(etc, 'own'), 'machine\n');
  writeFileSync(join(etc, 'machine-id'), '0123456789abcdef0123456789abcdef\n');
  writeFileSync(join(etc, 'passwd'), 'root:x:0:0::/:/bin/sh\nadmin:x:200:1::/:/bin/sh\n');
  mkdirSync(join(etc, 'more'));
  writeFileSync(join(etc, 'more/added'), 'machine\n');
  rmSync(join(etc, 'dropped'));
}

/**
 * All steps together take an hour, so usually every sixteenth is cut, each day others;
 * `SNAPGATE_CUT_EVERY=1` cuts all.
 */
const EVERY = Number(process.env.SNAPGATE_CUT_EVERY ?? 16);
const OFFSET = Math.floor(Date.now() / 86_400_000) % EVERY;

let fleet: Fleet;
let machine: DiskMachine;

const argv = (...command: string[]) => [
  ...[SNAPHOST, ...command, '--json', '--root', machine.root],
  ...['--config', join(machine.base, 'config.json')],
];

async function snaphost(...command: string[]) {
  const { status, stdout } = await runStepped(argv(...command));
  return { status, json: JSON.parse(stdout) };
}

async function publish(n: number): Promise<void> {
  await putTinyImage(fleet.repository, version(n), { tag: 'stable' });
}

/** Stops the machine and keeps its disks under a name. */
function keep(name: string): Disks {
  machine.stop();
  const kept = machine.copyNamed(name);
  DiskMachine.copy(machine.disks, kept);
  return kept;
}

/** A machine that runs the first version, and is offered the second; gives the first's id. */
async function install(hasEntries: boolean): Promise<string> {
  machine = new DiskMachine({ hasEntries });
  const config = JSON.stringify(machine.config(fleet.gateway.url));
  writeFileSync(join(machine.base, 'config.json'), config);
  writeFileSync(join(machine.base, 'policy.json'), JSON.stringify(fleet.policy));
  await publish(1);
  machine.start();
  const { json } = await snaphost('update');
  expect(json).toMatchObject({ method: 'full' });
  configure(join(machine.deployments, json.deployment, 'etc'));
  machine.stop();
  machine.start(json.deployment);
  expect((await snaphost('boot-complete')).json).toMatchObject({ proved: true });
  await publish(2);
  return json.deployment;
}

beforeAll(async () => {
  if (skipReason === undefined) fleet = await startFleet();
});
afterAll(() => fleet?.stop());
beforeEach((ctx) => ctx.skip(skipReason !== undefined, skipReason));

/** A command that is cut, what the machine is before it, and what boots then. */
type Scenario = {
  readonly command: readonly string[];
  readonly from: Disks;
  readonly boots: string;
};

/** What a run that nobody disturbs comes to: its steps, the state after it, and whole deployments. */
type Undisturbed = {
  readonly steps: readonly Step[];
  readonly state: object;
  readonly whole: ReadonlyMap<string, string>;
};

function isTidy([name]: Scenario['command']): boolean {
  return name === 'update' || name === 'gc';
}

function putIn(disks: Disks, boots: string): void {
  DiskMachine.copy(disks, machine.disks);
  machine.start(boots);
}

async function runUndisturbed({ command, from, boots }: Scenario): Promise<Undisturbed> {
  putIn(from, boots);
  const whole = new Map(deploymentIds(machine).map((id) => [id, treeDigest(machine, id)]));
  const { status, steps, stdout } = await runStepped(argv(...command));
  expect(status, stdout).toBe(0);
  for (const id of deploymentIds(machine)) whole.set(id, treeDigest(machine, id));
  const state = machineState(machine, isTidy(command));
  machine.stop();
  return { steps, state, whole };
}

/**
 * Whatever happened: Podman works, what boots is whole, and the same command comes to the same end,
 * where Podman finds nothing to complain about either.
 */
async function proveRecovery({ command }: Scenario, { state, whole }: Undisturbed, why: string) {
  expect(machine.podman('podman', 'images', '--quiet'), why).not.toBe('');
  const next = bootsNext(machine);
  expect(treeDigest(machine, next), why).toBe(whole.get(next));
  const { status, json } = await snaphost(...command);
  // The command may have been done already.
  if (status !== 0) expect(json, why).toMatchObject({ error: { code: 'NOTHING_TO_DO' } });
  expect(machineState(machine, isTidy(command)), why).toEqual(state);
  if (peerMissing('podman5') !== undefined) return;
  expect(machine.podman(peerPath('podman5'), 'system', 'check', '--quick'), why).toBe('');
}

async function cut(scenario: Scenario, undisturbed: Undisturbed, step: Step): Promise<void> {
  const { command, from, boots } = scenario;
  putIn(from, boots);
  const lost = machine.copyNamed('lost');
  const copies = (['root', 'boot'] as const).map(
    (part) => [machine.disks[part], lost[part]] as const,
  );
  const isDuring = step.kind === 'during';
  const why = `${step.number} ${step.kind} ${step.what.slice(0, 300)}`;
  const { status } = await runStepped(argv(...command), {
    step: step.number,
    ...(isDuring ? {} : { copies }),
  });
  expect(status, why).toBe(null);
  await proveRecovery(scenario, undisturbed, `killed: ${why}`);
  machine.stop();
  // A disk that is copied while a program writes to it is none that ever was.
  if (isDuring) return;
  DiskMachine.copy(lost, machine.disks);
  machine.start(boots);
  const next = bootsNext(machine);
  if (next !== boots) {
    machine.stop();
    machine.start(next);
  }
  await proveRecovery(scenario, undisturbed, `without power: ${why}`);
  machine.stop();
}

/** Cuts a command at its steps, one after the other; before programs that only look nothing changes. */
async function cutEverywhere(scenario: Scenario): Promise<void> {
  const undisturbed = await runUndisturbed(scenario);
  const steps = undisturbed.steps.filter(({ kind }) => kind !== 'read');
  const chosen = steps.filter((_, i) => i % EVERY === OFFSET % Math.min(EVERY, steps.length));
  const which = EVERY === 1 ? 'all' : `${chosen.length} (SNAPGATE_CUT_EVERY=1 cuts all)`;
  console.log(`${scenario.command.join(' ')}: ${steps.length} steps, ${which} of them cut`);
  const failed: string[] = [];
  for (const step of chosen) {
    await cut(scenario, undisturbed, step).catch((thrown: unknown) => {
      failed.push(explain(thrown));
      console.log(failed.at(-1));
      machine.stop();
    });
  }
  expect(failed).toEqual([]);
}

/** What went wrong after a cut; of two states only what differs. */
function explain(thrown: unknown): string {
  const { message, actual, expected } = thrown as Error & Record<'actual' | 'expected', object>;
  if (typeof actual !== 'object' || typeof expected !== 'object') return String(thrown);
  const wanted = new Map(Object.entries(expected));
  const others = Object.entries(actual).filter(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(wanted.get(key)),
  );
  return [
    message.split(': expected {')[0],
    ...others.map(
      ([key, value]) => `${key}: ${JSON.stringify(value)}, not ${JSON.stringify(wanted.get(key))}`,
    ),
  ].join('\n');
}

describe.each([
  ['with boot entries', true],
  ['with a default subvolume', false],
] as const)('a machine %s, whatever step it is cut at,', (_, hasEntries) => {
  let first: string;
  let second: string;
  let updated: Disks;

  beforeAll(async () => {
    if (skipReason === undefined) first = await install(hasEntries);
  });
  afterAll(() => machine?.remove());

  it('finishes an update', async () => {
    const from = keep('offered');
    await cutEverywhere({ command: ['update'], from, boots: first });
    putIn(from, first);
    second = (await snaphost('update')).json.deployment;
    updated = keep('updated');
  }, 7_200_000);

  it('proves what it booted', async () => {
    const scenario = { command: ['boot-complete'], from: updated, boots: second };
    await cutEverywhere(scenario);
  }, 7_200_000);

  it('goes back', async () => {
    await cutEverywhere({ command: ['rollback'], from: updated, boots: second });
  }, 7_200_000);

  it('collects garbage', async () => {
    putIn(updated, second);
    expect((await snaphost('boot-complete')).json).toMatchObject({ proved: true });
    await publish(3);
    const third = (await snaphost('update')).json.deployment;
    machine.stop();
    machine.start(third);
    const from = keep('full');
    await cutEverywhere({ command: ['gc', '--keep', '0'], from, boots: third });
  }, 7_200_000);
});
