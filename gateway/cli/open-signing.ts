import { SnapgateError } from '../../shared/errors.ts';
import { parsePolicy } from '../../shared/policy/policy.ts';
import { type Identity, parseTrustedRoot } from '../../shared/signing/identity.ts';
import { parseStrictJson } from '../../shared/strict-json.ts';
import type { KeylessSigner } from '../signing/keyless.ts';
import { openPkcs11 } from '../signing/pkcs11.ts';
import { openKeyFile, readPasswordFile, type Signer } from '../signing/signer.ts';
import { type SigningEvent, type SigningRule, SigningService } from '../signing/signing-service.ts';
import { openTransit } from '../signing/transit.ts';
import { readConfigured } from './read-text.ts';
import type { KeyPlace, SigningConfig } from './signing-config.ts';
import type { WorkOptions } from './work.ts';

type SigningSetup = Pick<WorkOptions, 'config' | 'own' | 'log' | 'metrics'>;

/** Prepares what the configuration wants signed. Throws CONFIG_INVALID, KEY_INVALID. */
export async function openSigning(setup: SigningSetup): Promise<SigningService> {
  const { config, own, log } = setup;
  const rules: SigningRule[] = [];
  for (const [i, { requirePublisher, ...rule }] of config.signing.entries()) {
    const signer = await openKeyOrService(rule, `signing.${i}`);
    const field = `signing.${i}.requirePublisher`;
    const policy =
      requirePublisher === undefined
        ? undefined
        : parsePolicy(await readConfigured(requirePublisher, field), requirePublisher);
    const { repository, images, deltas, on } = rule;
    const atPush = on === 'push';
    rules.push({ repository, images, deltas, atPush, signer, requirePublisher: policy });
    const by = 'publicKey' in signer ? signer.publicKey.hint : signer.identity?.subject;
    log('info', 'signing', { repository, images, deltas, on, by });
  }
  const registry = (config.publicUrl ?? config.upstream.url).host;
  return new SigningService({
    rules,
    open: own,
    registry,
    onEvent: (event) => report(setup, event),
  });
}

async function openKeyOrService(
  rule: SigningConfig,
  field: string,
): Promise<Signer | KeylessSigner> {
  return rule.keyless === undefined ? openSigner(rule, field) : openKeyless(rule.keyless, field);
}

/** Opens the key that the configuration names. Throws CONFIG_INVALID, KEY_INVALID. */
export async function openSigner(rule: KeyPlace, field: string): Promise<Signer> {
  const { key, passwordFile, pkcs11, transit } = rule;
  if (pkcs11 !== undefined) {
    return openPkcs11({ ...pkcs11, pin: await readPasswordFile(pkcs11.pinFile) });
  }
  if (transit !== undefined) {
    return openTransit({ ...transit, token: await readPasswordFile(transit.tokenFile) });
  }
  if (key === undefined || passwordFile === undefined) {
    throw new SnapgateError('CONFIG_INVALID', `${field}: it names no key`);
  }
  return openKeyFile(key, await readPasswordFile(passwordFile));
}

async function openKeyless(
  config: NonNullable<SigningConfig['keyless']>,
  field: string,
): Promise<KeylessSigner> {
  const { fulcio, rekor, timestampAuthority, tokenFile, issuer, subject, trustedRoot } = config;
  const text = await readConfigured(trustedRoot, `${field}.keyless.trustedRoot`);
  let trust: Identity['trust'];
  try {
    trust = parseTrustedRoot(parseStrictJson(text), trustedRoot);
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', `${field}: ${(cause as Error).message}`, { cause });
  }
  // One of the two says when it was signed; an entry in a log of version 1 carries a time as well.
  const transparencyLogs = rekor === undefined ? 0 : 1;
  return {
    certificateAuthority: fulcio,
    ...(rekor && { transparencyLog: rekor }),
    ...(timestampAuthority && { timestampAuthority }),
    identityToken: async () => (await readPasswordFile(tokenFile)).trim(),
    identity: { issuer, subject, trust, transparencyLogs, timestamps: 1 },
  };
}

function report({ log, metrics }: SigningSetup, event: SigningEvent): void {
  const { repository, digest, kind, outcome, refusal } = event;
  metrics.signature(kind, refusal?.code ?? outcome);
  const fields = { repository, digest, kind };
  if (refusal !== undefined) {
    const { code, message, where } = refusal;
    log('warn', 'not signed', { ...fields, code, reason: message, where });
  } else {
    log(outcome === 'signed' ? 'info' : 'debug', outcome, fields);
  }
}
