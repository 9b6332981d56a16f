// xds-mini serves the Envoy configuration that Istio itself generates for folders of Istio YAML, without Kubernetes.
//
//	xds-mini --mesh mesh.yaml --xds 127.0.0.1:15010 --http 127.0.0.1:15014 istio/ fixture/
//
// It is built on the package of Istio's own tests: the same generator as in istiod. For tests only.
package main

import (
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/test"
)

func main() {
	meshFile := flag.String("mesh", "", "mesh configuration file")
	xdsAddress := flag.String("xds", "127.0.0.1:15010", "address of the xDS server")
	httpAddress := flag.String("http", "127.0.0.1:15014", "address of /ready and /debug")
	flag.Parse()
	if err := run(*meshFile, *xdsAddress, *httpAddress, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(meshFile, xdsAddress, httpAddress string, folders []string) error {
	meshConfig, err := mesh.ReadMeshConfig(meshFile)
	if err != nil {
		return err
	}
	istio, kubernetes, err := documents(folders)
	if err != nil {
		return err
	}
	configs, _, err := crd.ParseInputs(strings.Join(istio, "\n---\n"))
	if err != nil {
		return err
	}
	// As in a cluster: a short destination such as "orion" is completed by its namespace and this domain.
	for i := range configs {
		configs[i].Domain = constants.DefaultClusterLocalDomain
	}
	var served error
	// A fault in the documents makes the fake server fail its "test", which Wrap returns as an error.
	err = test.Wrap(func(t test.Failer) {
		server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
			Configs:                configs,
			KubernetesObjectString: strings.Join(kubernetes, "\n---\n"),
			MeshConfig:             meshConfig,
			ListenerBuilder:        func() (net.Listener, error) { return net.Listen("tcp", xdsAddress) },
		})
		mux := http.NewServeMux()
		mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
		mux.Handle("/", server.DiscoveryDebug)
		served = http.ListenAndServe(httpAddress, mux)
	})
	return errors.Join(err, served)
}

// documents reads every *.yaml of the folders and parts Istio's resources from Kubernetes' own. What is neither, such as
// a mesh configuration, is left out.
func documents(folders []string) (istio, kubernetes []string, err error) {
	for _, folder := range folders {
		names, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, nil, err
			}
			for _, document := range strings.Split(string(text), "\n---\n") {
				switch {
				case strings.Contains(document, "istio.io/v1"):
					istio = append(istio, document)
				case strings.Contains(document, "apiVersion:"):
					kubernetes = append(kubernetes, document)
				}
			}
		}
	}
	return istio, kubernetes, nil
}
