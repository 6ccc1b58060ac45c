/** The version of this client, which a channel may ask for a newer one than. */
export const VERSION = '0.1.0';
