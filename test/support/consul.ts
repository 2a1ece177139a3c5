import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/** A service as an agent has it. */
export interface ConsulService {
  ID: string;
  Name: string;
  Port: number;
  Tags: string[];
  Address?: string;
  Check?: { HTTP: string; Interval: string };
}

/** A stand-in of a Consul agent: the service part of its HTTP API, with its refusals. */
export interface ConsulAgent {
  url: string;
  services: ReadonlyMap<string, ConsulService>;
  /** Method and path of each request, in their order. */
  calls: readonly string[];
  close(): void;
}

/** Starts one that wants this ACL token; developer.hashicorp.com/consul/api-docs/agent/service. */
export async function startConsul(token: string): Promise<ConsulAgent> {
  const services = new Map<string, ConsulService>();
  const calls: string[] = [];
  const handle = (call: { method: string; path: string; body: unknown }): [number, string] => {
    const { method, path } = call;
    const [action = '', id = ''] = path.replace('/v1/agent/service/', '').split('/');
    if (action === 'register' || action === 'deregister') {
      if (method !== 'PUT') return [405, 'method not allowed'];
      return action === 'register' ? register(call.body) : deregister(decodeURIComponent(id));
    }
    const found = services.get(decodeURIComponent(action));
    return found ? [200, JSON.stringify(found)] : [404, `unknown service ID: ${action}`];
  };
  const register = (body: unknown): [number, string] => {
    const service = body as Partial<ConsulService> | undefined;
    if (!service) return [400, 'Request decode failed: EOF'];
    if (!service.Name) return [400, 'Missing service name'];
    const { ID = service.Name, Port = 0, Tags = [] } = service;
    services.set(ID, { ...service, Name: service.Name, ID, Port, Tags });
    return [200, ''];
  };
  const deregister = (id: string): [number, string] =>
    services.delete(id)
      ? [200, '']
      : [
          404,
          `Unknown service ID "${id}". Ensure that the service ID is passed, not the service name.`,
        ];
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request;
    const body: unknown = await json(request).catch(() => undefined);
    const [path = ''] = url.split('?');
    calls.push(`${method} ${path}`);
    const [status, text] =
      headers['x-consul-token'] === token
        ? handle({ method, path, body })
        : [403, 'Permission denied: token with AccessorID lacks permission'];
    response.writeHead(status).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    services,
    calls,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
