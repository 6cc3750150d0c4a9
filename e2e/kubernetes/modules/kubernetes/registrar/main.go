// A stand-in for node-driver-registrar (registry.k8s.io/sig-storage/csi-node-driver-registrar),
// whose module could not be had where this was written: it does the one thing that the kubelet
// needs of it, with the same flags. The real one also writes a file for probes, serves health and
// metrics, and is what the chart installs everywhere else.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

var (
	driver    = flag.String("csi-address", "/run/csi/socket", "the driver's socket as seen from here")
	asSeen    = flag.String("kubelet-registration-path", "", "the driver's socket as the kubelet sees it")
	directory = flag.String("plugin-registration-path", "/registration", "where the kubelet looks")
	patience  = flag.Duration("timeout", 30*time.Second, "for the driver to say its name")
	_         = flag.Int("v", 0, "taken as the real one does, without effect")
)

type server struct {
	registration.UnimplementedRegistrationServer
	name string
}

func (s server) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              "CSIPlugin",
		Name:              s.name,
		Endpoint:          *asSeen,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus ends the process when the kubelet refused, so that it is started anew.
func (s server) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet refused %s: %s", s.name, status.Error)
	}
	log.Printf("the kubelet knows %s", s.name)
	return &registration.RegistrationStatusResponse{}, nil
}

func driverName() (string, error) {
	connection, err := grpc.NewClient("unix:"+*driver, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	limited, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	info, err := csi.NewIdentityClient(connection).GetPluginInfo(
		limited, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	return info.GetName(), err
}

func main() {
	flag.Parse()
	name, err := driverName()
	if err != nil {
		log.Fatalf("the driver at %s does not say its name: %v", *driver, err)
	}
	path := filepath.Join(*directory, name+"-reg.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Fatal(err)
	}
	syscall.Umask(0o077)
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, server{name: name})
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ending
		registrar.Stop() // removes the socket, which tells the kubelet that the driver is gone
	}()
	if err := registrar.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
