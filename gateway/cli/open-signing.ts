import { parsePolicy } from '../../shared/policy/policy.ts';
import { openKeyFile, readPasswordFile } from '../signing/signer.ts';
import { type SigningEvent, type SigningRule, SigningService } from '../signing/signing-service.ts';
import { readConfigured } from './upstream-access.ts';
import type { WorkOptions } from './work.ts';

type SigningSetup = Pick<WorkOptions, 'config' | 'own' | 'log' | 'metrics'>;

/** Prepares what the configuration wants signed. Throws CONFIG_INVALID, KEY_INVALID. */
export async function openSigning(setup: SigningSetup): Promise<SigningService> {
  const { config, own, log } = setup;
  const rules: SigningRule[] = [];
  for (const [i, { key, passwordFile, requirePublisher, ...rule }] of config.signing.entries()) {
    const signer = await openKeyFile(key, await readPasswordFile(passwordFile));
    const field = `signing.${i}.requirePublisher`;
    const policy =
      requirePublisher === undefined
        ? undefined
        : parsePolicy(await readConfigured(requirePublisher, field), requirePublisher);
    rules.push({ ...rule, signer, requirePublisher: policy });
    const { repository, images, deltas } = rule;
    log('info', 'signing', { repository, images, deltas, key: signer.publicKey.hint });
  }
  const registry = (config.publicUrl ?? config.upstream.url).host;
  return new SigningService({
    rules,
    open: own,
    registry,
    onEvent: (event) => report(setup, event),
  });
}

function report({ log, metrics }: SigningSetup, event: SigningEvent): void {
  const { repository, digest, kind, outcome, refusal } = event;
  metrics.signature(kind, refusal?.code ?? outcome);
  const fields = { repository, digest, kind };
  if (refusal !== undefined) {
    log('warn', 'not signed', { ...fields, code: refusal.code, reason: refusal.message });
  } else {
    log(outcome === 'signed' ? 'info' : 'debug', outcome, fields);
  }
}
