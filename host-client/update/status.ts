import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { channelPath } from '../../shared/tuf/roles.ts';
import type { KnownChannel } from '../channel/known-channel.ts';
import type { Deployment } from '../deploy/deployment.ts';
import { writeFileLightly } from '../system/files.ts';
import { channelOf } from './follow-channel.ts';
import { channelName, type Machine } from './machine.ts';
import type { Attempt } from './report.ts';
import { readPolicy } from './trust.ts';

/** What `status --json` prints, and what stands in the status file. */
export type StatusReport = {
  /** Version of this object's form: new fields may come, others change with the number only. */
  readonly version: 1;
  /** The image that the machine follows, with its tag. */
  readonly image: string;
  readonly gateways: readonly string[];
  /** What the machine runs; null when that is no deployment. */
  readonly running: Deployment | null;
  /** What it boots next. */
  readonly next: Deployment | null;
  /** What a rollback leads to. */
  readonly rollback: Deployment | null;
  /** Whether a reboot would change what runs. */
  readonly rebootNeeded: boolean;
  readonly lastAttempt: Attempt | null;
  /**
   * What the image's tag means by the signed statement that was accepted last; null where the policy
   * asks for none or cannot be read.
   */
  readonly channel: KnownChannel | null;
};

type WithStatus = Pick<Machine, 'channels' | 'config' | 'deployments' | 'state'>;

/** How the machine is now. */
export async function machineStatus(machine: WithStatus): Promise<StatusReport> {
  const { config, deployments, state } = machine;
  const { running, next, rollback } = await deployments.roles(await deployments.list());
  return {
    version: 1,
    image: channelName(config),
    gateways: config.gateways.map((url) => url.origin),
    ...{ running: running ?? null, next: next ?? null, rollback: rollback ?? null },
    rebootNeeded: next !== undefined && running?.id !== next.id,
    lastAttempt: (await state.lastAttempt()) ?? null,
    channel: await channelStatus(machine),
  };
}

async function channelStatus({ channels, config }: WithStatus): Promise<KnownChannel | null> {
  // What is wrong with the policy is for the commands to say that judge by it.
  const policy = await readPolicy(config.policy).catch(() => undefined);
  const rule = policy === undefined ? undefined : channelOf(policy, config.name);
  if (rule === undefined) return null;
  return channels.known(rule, channelPath(config.repository, config.tag));
}

/**
 * Writes how the machine is to `/run/snaphost/status.json`, for monitoring by whoever may not ask: the
 * object of `status --json` with the time at which it was written. Replaced at once, never half there.
 */
export async function writeStatusFile(machine: WithStatus, now = new Date()): Promise<void> {
  const folder = join(machine.config.root, 'run/snaphost');
  const status = { ...(await machineStatus(machine)), written: now.toISOString() };
  await mkdir(folder, { recursive: true });
  // Whatever the umask of a service is.
  await chmod(folder, 0o755);
  const text = `${JSON.stringify(status, undefined, 2)}\n`;
  await writeFileLightly(join(folder, 'status.json'), text, 0o644);
}
