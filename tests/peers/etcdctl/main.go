// Command etcdctl is the real etcdctl, built from the pinned module.
package main

import "go.etcd.io/etcd/etcdctl/v3/ctlv3"

func main() {
	ctlv3.MustStart()
}
