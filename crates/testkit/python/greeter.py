"""A gRPC service and its client, on Python's grpcio: peers that the gateway did not make for itself.

    greeter.py serve [--tls CHAIN KEY]   says its port, and serves until its standard input ends
    greeter.py call TARGET [--tls AUTHORITY NAME] < CALLS

Each line of CALLS is a call: {"method": "Greet", "hellos": [{"name": "Ann"}], "timeout_s": 5, "metadata": {}}. For each the
client prints a line with what came of it. Of `Chat` it sends a message only when the one before was answered.
"""

import json
import pathlib
import queue
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

SERVICE = "greeter.v1.Greeter"
DETAILS = "grpc-status-details-bin"
METHODS = {"Greet": "unary_unary", "Count": "unary_stream", "Gather": "stream_unary", "Chat": "stream_stream"}


def known():
    """The messages of the description, by name."""
    described = descriptor_pb2.FileDescriptorSet()
    described.ParseFromString(pathlib.Path(__file__).with_name("greeter.pb").read_bytes())
    pool = descriptor_pool.Default()
    for file in described.file:
        try:
            pool.FindFileByName(file.name)
        except KeyError:
            pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


message = known()
Hello, Greeting = message("greeter.v1.Hello"), message("greeter.v1.Greeting")
Status, ErrorInfo = message("google.rpc.Status"), message("google.rpc.ErrorInfo")


def refuse(context, code, said):
    """Ends the call with details of the kind that google.rpc has for them."""
    status = Status(code=code.value[0], message=said)
    status.details.add().Pack(ErrorInfo(reason="TESTED", domain="greeter.example", metadata={"at": "home"}))
    context.set_trailing_metadata((("x-served-by", "grpcio"), (DETAILS, status.SerializeToString())))
    context.abort(code, said)


def greeting(hello, context, number=1):
    left_s = context.time_remaining()
    left_ms = 0 if left_s is None or left_s > 1e6 else int(left_s * 1000)
    return Greeting(text=f"hello, {hello.name}", number=number, left_ms=left_ms)


def begin(context):
    asked = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-asked-by", asked.get("x-asked-by", "nobody")),))
    context.set_trailing_metadata((("x-served-by", "grpcio"),))


def greet(hello, context):
    if hello.name == "nobody":
        refuse(context, grpc.StatusCode.NOT_FOUND, "nobody is at home: 100% sure, älso")
    if hello.name == "slow":
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()
        return Greeting()
    begin(context)
    return greeting(hello, context)


def count(hello, context):
    if hello.name == "nobody":
        refuse(context, grpc.StatusCode.NOT_FOUND, "nobody is at home")
    begin(context)
    for number in range(1, hello.times + 1):
        if hello.name == "midway" and number == 3:
            refuse(context, grpc.StatusCode.UNAVAILABLE, "gone")
        yield greeting(hello, context, number)


def gather(hellos, context):
    names = [hello.name for hello in hellos]
    begin(context)
    return Greeting(text="hello, " + " and ".join(names), number=len(names))


def chat(hellos, context):
    begin(context)
    for number, hello in enumerate(hellos, 1):
        yield greeting(hello, context, number)


def serve(arguments):
    from grpc_reflection.v1alpha import reflection

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    behaviours = {"Greet": greet, "Count": count, "Gather": gather, "Chat": chat}
    handlers = {
        name: getattr(grpc, f"{METHODS[name]}_rpc_method_handler")(
            behaviour, request_deserializer=Hello.FromString, response_serializer=Greeting.SerializeToString
        )
        for name, behaviour in behaviours.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    if arguments[:1] == ["--tls"]:
        chain, key = (pathlib.Path(file).read_bytes() for file in arguments[1:3])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


def plain(metadata):
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def rich(trailing):
    """The details of a failure."""
    for key, value in trailing or ():
        if key == DETAILS:
            found = []
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                detail.Unpack(info)
                found.append({"reason": info.reason, "domain": info.domain})
            return found
    return []


def made(channel, asked, turns):
    """A call, and what it gives. Of `Chat` a message is sent for each turn."""
    kind = METHODS[asked["method"]]
    method = getattr(channel, kind)(
        f"/{SERVICE}/{asked['method']}",
        request_serializer=Hello.SerializeToString,
        response_deserializer=Greeting.FromString,
    )
    hellos = [json_format.ParseDict(hello, Hello()) for hello in asked.get("hellos", [{}])]
    options = {"timeout": asked.get("timeout_s", 30), "metadata": tuple(asked.get("metadata", {}).items())}

    def by_turns():
        for hello in hellos:
            turns.get()
            yield hello

    if kind == "unary_unary":
        answer, call = method.with_call(hellos[0], **options)
        return [answer], call
    if kind == "stream_unary":
        answer, call = method.with_call(iter(hellos), **options)
        return [answer], call
    call = method(hellos[0] if kind == "unary_stream" else by_turns(), **options)
    return call, call


def told(channel, asked):
    messages, turns = [], queue.Queue()
    turns.put(True)
    try:
        answers, call = made(channel, asked, turns)
        for answer in answers:
            messages.append(json_format.MessageToDict(answer))
            turns.put(True)
    except grpc.RpcError as error:
        call = error
    initial, trailing = call.initial_metadata(), call.trailing_metadata()
    return {
        "messages": messages,
        "code": call.code().name,
        "details": call.details() or "",
        "initial": plain(initial),
        "trailing": plain(trailing),
        "rich": rich(trailing),
    }


def call(arguments):
    target, rest = arguments[0], arguments[1:]
    if rest[:1] == ["--tls"]:
        trusted = grpc.ssl_channel_credentials(pathlib.Path(rest[1]).read_bytes())
        channel = grpc.secure_channel(target, trusted, options=(("grpc.ssl_target_name_override", rest[2]),))
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        for line in sys.stdin:
            print(json.dumps(told(channel, json.loads(line))), flush=True)


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](sys.argv[2:])
