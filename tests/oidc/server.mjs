// An identity provider on loopback, as 127.0.0.2, which for a browser is another site than a station at 127.0.0.1: oidc-provider (certified by the OpenID Foundation) with its own pages for signing in,
// where any name is taken as the person's. Environment: OIDC_PORT, OIDC_GROUPS (JSON: name to groups).
// It leads back to any port of this machine (RFC 8252, 7.3), since each test's station has its own.
import process from 'node:process'
import Provider from 'oidc-provider'

const { OIDC_PORT: port, OIDC_GROUPS: groups } = process.env
const known = JSON.parse(groups)
const client = {
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/login/centre'],
  grant_types: ['authorization_code'],
  response_types: ['code'],
}

const provider = new Provider(`http://127.0.0.2:${port}`, {
  clients: [
    { ...client, client_id: 'dock 3', client_secret: 'a secret: 100%+' },
    { ...client, client_id: 'post', client_secret: 'b', token_endpoint_auth_method: 'client_secret_post' },
    { ...client, client_id: 'public', token_endpoint_auth_method: 'none' },
  ],
  claims: { openid: ['sub', 'groups'], profile: ['preferred_username'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  cookies: { keys: ['only for tests'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, groups: known[id] ?? [] }),
  }),
})
for (const host of ['127.0.0.2', '127.0.0.1']) provider.listen({ host, port: Number(port) }) // the second for who waits
