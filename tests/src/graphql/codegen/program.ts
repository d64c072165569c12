// What a frontend does with the types that were generated. It is compiled, and not run; where it says that an error is
// expected, none would be one.
import type {
  AgainQuery,
  AgainQueryVariables,
  MineQuery,
  MineQueryVariables,
} from './documents.js';
import type { Money, Order } from './schema.js';

type Answer<Data> = { data?: Data; errors?: { message: string; extensions: { code: string } }[] };
declare function ask<Data, Variables>(document: string, variables: Variables): Promise<Answer<Data>>;

export const shown = (total: Money, status: Order['status']): string => `${total.amount} ${status}`;

export async function mine(after: string | null): Promise<string[]> {
  const { data } = await ask<MineQuery, MineQueryVariables>('query Mine …', { after });
  const count: number = data?.orders.totalCount ?? 0;
  const lines = (data?.orders.nodes ?? []).map((order) => {
    const carrier: string | null | undefined = order.shipment?.carrier;
    const names = order.lines.map((line) => line.product?.name ?? 'an article of the past');
    return `${order.reference ?? order.nodeId} ${order.status} ${order.total.amount} ${carrier} ${names.join()}`;
  });
  // @ts-expect-error a payment may be missing
  data?.orders.nodes[0]?.payment.status;
  // @ts-expect-error it was not asked for
  data?.orders.nodes[0]?.country;
  // @ts-expect-error a state is one of those that there are
  const gone = data?.orders.nodes[0]?.status === 'GONE';
  return [`${count}${gone}`, ...lines];
}

export async function again(nodeId: string): Promise<string> {
  const { data } = await ask<AgainQuery, AgainQueryVariables>('query Again …', { nodeId });
  const node = data?.node;
  switch (node?.__typename) {
    case 'Order':
      return node.status;
    case 'Product':
      return node.price?.amount ?? 'not listed';
    default:
      return 'nothing to show';
  }
}

// @ts-expect-error an id has to be given
void ask<AgainQuery, AgainQueryVariables>('query Again …', {});
