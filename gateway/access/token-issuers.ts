import { decodeJwt, errors, type JWTPayload, jwtVerify } from 'jose';
import { SnapgateError } from '../../shared/errors.ts';
import type { Transport } from '../../shared/registry/transport.ts';
import { IssuerKeys } from './issuer-keys.ts';
import { isPrincipalName, type Principal } from './principal.ts';

/** Longest token read, in characters. */
const MAX_TOKEN = 16 * 1024;
/** How far clocks may be apart, in seconds. */
const TOLERANCE_SECONDS = 30;
/** Signatures by keys that the issuer alone has. */
const ALGORITHMS = [
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
];

/** An issuer of OpenID Connect tokens whose word is taken. */
export type TokenIssuer = {
  /** Kind of the principals that it makes. */
  readonly name: string;
  /** As it stands in tokens. */
  readonly issuer: string;
  /** What tokens must be meant for. */
  readonly audience: string;
  readonly keys?: URL | undefined;
  /** The claim that names somebody. */
  readonly claim: string;
  /** Claims that must have exactly these values. */
  readonly require: Readonly<Record<string, string>>;
};

/** Somebody by a token, and when it ends, in milliseconds. */
export type TokenHolder = { readonly principal: Principal; readonly until: number };

/** Judges JSON Web Tokens (RFC 7519) of the issuers that are known. */
export class TokenIssuers {
  readonly #issuers: readonly { readonly issuer: TokenIssuer; readonly keys: IssuerKeys }[];

  /** `transport` gives what each issuer is reached by. */
  constructor(issuers: readonly TokenIssuer[], transport: (issuer: TokenIssuer) => Transport) {
    this.#issuers = issuers.map((one) => {
      const { issuer, keys } = one;
      return { issuer: one, keys: new IssuerKeys({ transport: transport(one), issuer, keys }) };
    });
  }

  /**
   * Who holds a token. No part of it stands in an error. Throws UNAUTHORIZED, and
   * UPSTREAM_UNREACHABLE or UPSTREAM_FAILED when its issuer does not give its keys.
   */
  async verify(token: string): Promise<TokenHolder> {
    const named = issuerOf(token);
    const candidates = this.#issuers.filter(({ issuer }) => issuer.issuer === named);
    let last = unauthorized('no issuer that is known here made it');
    for (const { issuer, keys } of candidates) {
      try {
        const { audience } = issuer;
        const { payload } = await jwtVerify(token, keys.getKey, {
          ...{ audience, issuer: issuer.issuer, algorithms: ALGORITHMS },
          ...{ clockTolerance: TOLERANCE_SECONDS, requiredClaims: ['exp', issuer.claim] },
        });
        return holder(issuer, payload);
      } catch (thrown) {
        if (thrown instanceof SnapgateError && thrown.code !== 'UNAUTHORIZED') throw thrown;
        last = thrown instanceof SnapgateError ? thrown : unauthorized(reasonOf(thrown));
      }
    }
    throw last;
  }
}

/** The issuer that a token claims; nothing else of it is believed yet. */
function issuerOf(token: string): string | undefined {
  if (token.length > MAX_TOKEN) throw unauthorized('it is too long');
  try {
    return decodeJwt(token).iss;
  } catch {
    throw unauthorized('it is no JSON Web Token');
  }
}

function holder(issuer: TokenIssuer, payload: JWTPayload): TokenHolder {
  for (const [claim, value] of Object.entries(issuer.require)) {
    if (payload[claim] !== value) throw unauthorized(`its claim ${claim} is not the right one`);
  }
  const name = payload[issuer.claim];
  if (!isPrincipalName(name)) throw unauthorized(`its claim ${issuer.claim} is no name`);
  return { principal: { kind: issuer.name, name }, until: (payload.exp ?? 0) * 1000 };
}

function reasonOf(thrown: unknown): string {
  if (thrown instanceof errors.JWTExpired) return 'it has ended';
  if (thrown instanceof errors.JWTClaimValidationFailed) {
    return `its claim ${thrown.claim} is not the right one`;
  }
  if (thrown instanceof errors.JWKSNoMatchingKey) return 'its issuer has no such key';
  if (thrown instanceof errors.JWSSignatureVerificationFailed) return 'its signature is not good';
  return 'it is no good';
}

function unauthorized(reason: string): SnapgateError {
  return new SnapgateError('UNAUTHORIZED', `the token is refused: ${reason}`, {
    hint: 'Get a new one that is meant for this gateway.',
  });
}
