/** A command's connection to the daemon. */
import { connect } from '../client/connect.ts'
import type { Client } from '../client/types.ts'
import type { CommandContext } from './command-context.ts'
import { serverAddress } from './server-address.ts'

/** Who the daemon's log says has connected. */
const clientName = 'tidelog command line'

/** Connects to `--server`, TIDELOG_SERVER or the default. SERVER_UNREACHABLE at once when nobody listens there. */
export function openClient(server: string | undefined, context: CommandContext): Promise<Client> {
  return connect(serverAddress(server, context.environment), { name: clientName })
}

/** Connects, does one thing, and closes the connection whatever came of it. */
export async function withClient(
  server: string | undefined,
  context: CommandContext,
  use: (client: Client) => Promise<void>,
): Promise<void> {
  const client = await openClient(server, context)
  try {
    await use(client)
  } finally {
    await client.close()
  }
}
