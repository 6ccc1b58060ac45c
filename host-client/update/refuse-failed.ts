import { SnapgateError } from '../../shared/errors.ts';
import { channelName, type Machine } from './machine.ts';

/** Throws POLICY_REFUSED for an image that has failed on this machine; `hint` says what to do then. */
export async function refuseFailed(
  { config, deployments }: Pick<Machine, 'config' | 'deployments'>,
  manifest: string,
  hint: string,
): Promise<void> {
  const reason = await deployments.failureOf(manifest);
  if (reason === undefined) return;
  const where = channelName(config);
  throw new SnapgateError('POLICY_REFUSED', `this image has failed here: ${reason}`, {
    where,
    hint,
  });
}
