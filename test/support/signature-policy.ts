import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Where Podman and skopeo find what {@link writeSignaturePolicy} wrote. */
export type SignaturePolicy = {
  /** `HOME` for Podman. */
  readonly home: string;
  /** Options for skopeo, before its command. */
  readonly skopeo: readonly string[];
};

/**
 * Writes a containers policy that takes images of a registry only when they are signed by a key, and
 * tells the tools to look for signatures in the registry. `identity` is how the name that was signed
 * must match the one that is asked for.
 */
export async function writeSignaturePolicy(
  home: string,
  registry: string,
  keyFile: string,
  identity: 'matchRepository' | 'matchRepoDigestOrExact' = 'matchRepository',
): Promise<SignaturePolicy> {
  const folder = join(home, '.config', 'containers');
  const registries = join(folder, 'registries.d');
  await mkdir(registries, { recursive: true });
  const signed = { type: 'sigstoreSigned', keyPath: keyFile, signedIdentity: { type: identity } };
  const policy = {
    default: [{ type: 'reject' }],
    transports: { docker: { [registry]: [signed] } },
  };
  await writeFile(join(folder, 'policy.json'), JSON.stringify(policy));
  const lookaside = { docker: { [registry]: { 'use-sigstore-attachments': true } } };
  await writeFile(join(registries, 'test.yaml'), JSON.stringify(lookaside));
  const skopeo = ['--policy', join(folder, 'policy.json'), '--registries.d', registries];
  return { home, skopeo };
}
