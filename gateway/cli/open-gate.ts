import { sha256 } from '../../shared/digest.ts';
import type { Log } from '../../shared/log.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { Gate, type GateDecision, type GateMode } from '../policy/gate.ts';
import type { Metrics } from '../routes/metrics.ts';
import type { Catalogue } from '../store/catalogue.ts';
import type { GatewayConfig } from './config.ts';
import { readConfigured } from './read-text.ts';
import type { GatewayWork } from './work.ts';

type GateSetup = {
  readonly config: GatewayConfig;
  readonly catalogue: Catalogue;
  readonly work: Pick<GatewayWork, 'ensureSigned'>;
  readonly metrics: Metrics;
  readonly log: Log;
};

/** Prepares the gate that the configuration wants, if any. Throws CONFIG_INVALID, KEY_INVALID. */
export async function openGate(setup: GateSetup): Promise<Gate | undefined> {
  const { config, catalogue, log, work } = setup;
  const { ensureSigned } = work;
  if (config.gate === undefined) return undefined;
  const { mode, policy: file, pushes } = config.gate;
  const text = await readConfigured(file, 'gate.policy');
  const policyDigest = sha256(text);
  log('info', 'gate', { mode, pushes, policy: policyDigest });
  return new Gate({
    ...{ mode, pushes, policyDigest, catalogue, policy: parsePolicy(text, file) },
    registry: (config.publicUrl ?? config.upstream.url).host,
    ensureSigned,
    onDecision: (_mode, decision) => report(setup, mode, decision),
  });
}

function report({ log, metrics }: GateSetup, mode: GateMode, decision: GateDecision): void {
  const { repository, digest, outcome, isCached, refusal } = decision;
  metrics.gate(mode, refusal?.code ?? outcome, isCached);
  const fields = { mode, repository, digest, cached: isCached };
  if (refusal === undefined) log('debug', 'let through', { ...fields, outcome });
  else log('warn', 'refused', { ...fields, code: refusal.code, reason: refusal.message });
}
