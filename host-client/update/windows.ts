import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { parseWindow, secondsUntilOpen, stableDelay } from '../line/window.ts';
import { run } from '../system/run.ts';
import type { Machine } from './machine.ts';

/** Whether a window of the configuration is open; one that is not named always is. */
export function isOpen(window: string | undefined, now = new Date()): boolean {
  return window === undefined || secondsUntilOpen(parseWindow(window), now) === 0;
}

/** Throws OUTSIDE_WINDOW, with when it opens, for what a timer must not do now. */
export function requireOpen(what: string, window: string | undefined, now = new Date()): void {
  if (window === undefined || isOpen(window, now)) return;
  const seconds = secondsUntilOpen(parseWindow(window), now);
  const opens = new Date(now.getTime() + seconds * 1000);
  throw new SnapgateError('OUTSIDE_WINDOW', `${what} waits for its window, ${window}`, {
    hint: `It opens at ${opens.toLocaleString()}. A person may run it without --automatic.`,
  });
}

/**
 * Reboots into what was installed, if anything was. A timer keeps to the reboot window, and to this
 * machine's own delay, so that a fleet does not reboot at once.
 */
export async function rebootWhenAllowed(
  { config, deployments }: Pick<Machine, 'config' | 'deployments'>,
  automatic: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { running, next } = await deployments.roles(await deployments.list());
  if (next === undefined || running === undefined || next.id === running.id) return;
  const { rebootWindow, rebootSpreadSeconds } = config.line;
  if (automatic) {
    // Nobody said that a timer may reboot this machine.
    if (rebootWindow === undefined || !isOpen(rebootWindow)) return;
    const id = await readFile(join(config.root, 'etc/machine-id'), 'utf8').catch(() => '');
    await sleep(stableDelay(id, 'reboot', rebootSpreadSeconds) * 1000, undefined, { signal });
    if (!isOpen(rebootWindow)) return;
  }
  await run('systemctl', ['reboot']);
}
