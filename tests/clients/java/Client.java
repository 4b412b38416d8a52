import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import io.grpc.stub.StreamObserver;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;

/** Java's jetcd as one of the clients that tests/clients runs: it says its lines of the conversation. */
public final class Client {
    private static final long LEASE_TTL_SECONDS = 3;

    public static void main(String[] args) throws Exception {
        try (io.etcd.jetcd.Client client = io.etcd.jetcd.Client.builder().endpoints(args[0]).build()) {
            converse(client);
        }
    }

    private static void converse(io.etcd.jetcd.Client client) throws Exception {
        KV kv = client.getKVClient();
        kv.put(bytes("c/key"), bytes("one")).get();
        say("put");
        say("get " + kv.get(bytes("c/key")).get().getKvs().get(0).getValue());

        for (int n = 0; n < 2; n++) {
            TxnResponse answer = kv.txn()
                    .If(new Cmp(bytes("c/key"), Cmp.Op.EQUAL, CmpTarget.value(bytes("one"))))
                    .Then(Op.put(bytes("c/key"), bytes("two"), PutOption.DEFAULT))
                    .Else(Op.get(bytes("c/key"), GetOption.DEFAULT))
                    .commit()
                    .get();
            say(answer.isSucceeded()
                    ? "txn then"
                    : "txn else " + answer.getGetResponses().get(0).getKvs().get(0).getValue());
        }

        Lease leases = client.getLeaseClient();
        long lease = leases.grant(LEASE_TTL_SECONDS).get().getID();
        kv.put(bytes("c/leased"), bytes(""), PutOption.builder().withLeaseId(lease).build()).get();
        leases.keepAlive(lease, new Renewals());
        say("lease");

        watch(client.getWatchClient());
        leases.revoke(lease).get();
        say("done");
    }

    /** Prints events until the key is deleted; jetcd reports an outage and resumes by itself. */
    private static void watch(Watch watches) throws Exception {
        AtomicBoolean created = new AtomicBoolean();
        CompletableFuture<Void> deleted = new CompletableFuture<>();
        WatchOption option = WatchOption.builder().withCreateNotify(true).build();
        Watch.Listener listener = Watch.listener(
                response -> show(response, created, deleted),
                error -> System.err.println(error));
        try (Watch.Watcher watcher = watches.watch(bytes("c/watched"), option, listener)) {
            deleted.get();
        }
    }

    private static void show(WatchResponse response, AtomicBoolean created, CompletableFuture<Void> deleted) {
        if (response.isCreatedNotify() && created.compareAndSet(false, true)) {
            say("watching");
        }
        for (WatchEvent event : response.getEvents()) {
            if (event.getEventType() == WatchEvent.EventType.DELETE) {
                say("event delete");
                deleted.complete(null);
            } else {
                say("event put " + event.getKeyValue().getValue());
            }
        }
    }

    private static final class Renewals implements StreamObserver<LeaseKeepAliveResponse> {
        @Override
        public void onNext(LeaseKeepAliveResponse response) {
            say("renewed");
        }

        /** jetcd goes on by itself after an outage; that the client is closed at the end comes here too. */
        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {}
    }

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
