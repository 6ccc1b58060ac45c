import type { Context } from 'hono';
import { type SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { OutgoingHeaders } from '../upstream/headers.ts';

/** An error as the distribution specification 1.1 writes it ("Error Codes"). */
export type ErrorBody = {
  readonly errors: readonly { code: string; message: string; detail?: object }[];
};

/** The body of an error's answer. */
export function errorBody(error: SnapgateError): ErrorBody {
  const { code, message, where, hint } = error.toJSON();
  const detail = { ...(where === undefined ? {} : { where }), ...(hint ? { hint } : {}) };
  return { errors: [{ code, message, ...(Object.keys(detail).length > 0 ? { detail } : {}) }] };
}

/** What an error that nobody expected says to clients: nothing of the gateway's inside. */
export function publicError(thrown: unknown): SnapgateError {
  const error = toSnapgateError(thrown);
  if (error.code !== 'INTERNAL') return error;
  return toSnapgateError('something went wrong inside the gateway');
}

/** Headers that every answer of the gateway's own carries under /v2/. */
export const API_HEADERS: OutgoingHeaders = {
  'docker-distribution-api-version': 'registry/2.0',
};

/** The answer that an error is to clients, with when to come back where that is known. */
export function errorAnswer(c: Context, error: SnapgateError): Response {
  for (const [name, value] of Object.entries(API_HEADERS)) c.header(name, String(value));
  const { retryAfter } = error;
  if (retryAfter !== undefined) c.header('Retry-After', String(Math.ceil(retryAfter)));
  return c.json(errorBody(publicError(error)), error.httpStatus as 500);
}
