// Lister prints, as JSON, the blocks of a VolumeSnapshot that have data, or those that changed
// since an older one. All that it does is in the sidecar's own library for backup programs.
package main

import (
	"context"
	"flag"
	"log"
	"os"

	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/iterator"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the API server")
	args := iterator.Args{Emitter: &iterator.JSONEmitter{Writer: os.Stdout}}
	flag.StringVar(&args.Namespace, "namespace", "default", "of the VolumeSnapshots")
	flag.StringVar(&args.SnapshotName, "snapshot", "", "a VolumeSnapshot")
	flag.StringVar(&args.PrevSnapshotName, "previous", "", "an older one of the same volume")
	flag.StringVar(&args.SAName, "account", "", "the ServiceAccount, of the same namespace, that asks")
	flag.Parse()
	args.SANamespace = args.Namespace
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	if args.Clients, err = iterator.BuildClients(config); err != nil {
		log.Fatal(err)
	}
	if err := iterator.GetSnapshotMetadata(context.Background(), args); err != nil {
		log.Fatal(err)
	}
}
